// Runs once. A fold that the visitor has opened is opened again, by its key, after the contents are rendered again.
const unfolded = new Set();
element.addEventListener('click', event => {
  const fold = event.target.closest('summary') && event.target.closest('details[data-key]'); if (!fold) return;
  if (fold.open) unfolded.delete(fold.dataset.key); else unfolded.add(fold.dataset.key);  // it toggles after this event
});
function apply() {
  element.querySelectorAll('details[data-key]').forEach(fold => { fold.open = unfolded.has(fold.dataset.key); });
}
watch('value', apply);
apply();
