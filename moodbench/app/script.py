"""JavaScript of the page: sort the table by its headings, keep folds open, and keep the address up to date."""

TABLE_JS = r"""
// Runs once. Events are taken on `element`, which outlives what is rendered into it; the order is applied again after.
const given = new URL(location.href).searchParams.get('sort') || '';
let key = given.replace(/^-/, ''), dir = given.startsWith('-') ? -1 : 1;
const cell = row => row.querySelector('.mb-' + CSS.escape(key));
function compare(a, b) {
  const x = (cell(a) || {dataset: {}}).dataset.v || '', y = (cell(b) || {dataset: {}}).dataset.v || '';
  if (x === '' || y === '') return (x === '') - (y === '');     // what is missing stands last both ways
  const n = Number(x), m = Number(y);
  return dir * (isNaN(n) || isNaN(m) ? x.localeCompare(y) : n - m);
}
function apply() {
  const body = element.querySelector('tbody'); if (!body) return;
  if (key && element.querySelector('th.mb-' + CSS.escape(key)))
    [...body.rows].sort(compare).forEach(row => body.appendChild(row));
  element.querySelectorAll('thead th').forEach(th => { const b = th.querySelector('button'); if (!b) return;
    const by = b.dataset.key === (key || 'rank');
    th.setAttribute('aria-sort', by ? (key && dir < 0 ? 'descending' : 'ascending') : 'none'); });
  body.classList.toggle('mb-sorted', !!key && !(key === 'rank' && dir > 0));
}
element.addEventListener('click', event => {
  const button = event.target.closest('thead button[data-key]'); if (!button) return;
  if (key === button.dataset.key) dir = -dir; else { key = button.dataset.key; dir = Number(button.dataset.first); }
  const url = new URL(location.href), plain = key === 'rank' && dir > 0;
  if (plain) url.searchParams.delete('sort'); else url.searchParams.set('sort', (dir < 0 ? '-' : '') + key);
  history.replaceState(history.state, '', url);
  apply();
});
watch('value', apply);
apply();
"""

FOLDS_JS = r"""
// Runs once. What a visitor has unfolded stays so when the whole is made anew, known again by its key.
const unfolded = new Set();
element.addEventListener('click', event => {
  const fold = event.target.closest('summary') && event.target.closest('details[data-key]'); if (!fold) return;
  if (fold.open) unfolded.delete(fold.dataset.key); else unfolded.add(fold.dataset.key);  // it turns after this event
});
function apply() {
  element.querySelectorAll('details[data-key]').forEach(fold => { fold.open = unfolded.has(fold.dataset.key); });
}
watch('value', apply);
apply();
"""

ADDRESS_JS = r"""
// The server sends the canonical query of the state that it has rendered; the table's order is the browser's own.
function sync() {
  const sent = element.querySelector('[data-query]'); if (!sent) return;
  const url = new URL(location.href), sort = url.searchParams.get('sort');
  url.search = sent.dataset.query;
  if (sort) url.searchParams.set('sort', sort);
  if (url.href !== location.href) history.replaceState(history.state, '', url);
}
watch('value', sync);
sync();
// The order of the table is known here alone, so a link to the view takes the address when it is pointed at or reached.
for (const reached of ['pointerover', 'focusin', 'click']) document.addEventListener(reached, event => {
  const link = event.target.closest && event.target.closest('a.mb-link'); if (link) link.href = location.search || '?';
}, true);
"""
