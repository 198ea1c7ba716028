// An answer is visible only beside the text and the models that it was given for, however late it arrives.
function check() {
  const answer = element.querySelector('[data-text]'); if (!answer) return;
  const box = document.querySelector('#try-text textarea');
  const shown = document.querySelector('#mb-try-models [data-models]');
  const isOfText = !!box && box.value === answer.dataset.text;
  answer.hidden = !isOfText || !shown || shown.dataset.models !== answer.dataset.models;
}
for (const changed of ['input', 'mb-models']) document.addEventListener(changed, check, true);
watch('value', check);
check();
