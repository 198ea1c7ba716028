// Sorts the table by its headings; the order is part of the address.
// Runs once. `element` outlives its contents, so events are handled on it; a new table is sorted again.
let key, dir;
function read() {
  const given = new URL(location.href).searchParams.get('sort') || '';
  key = given.replace(/^-/, ''); dir = given.startsWith('-') ? -1 : 1;
}
const cell = row => row.querySelector('.mb-' + CSS.escape(key));
function compare(a, b) {
  const x = (cell(a) || {dataset: {}}).dataset.v || '', y = (cell(b) || {dataset: {}}).dataset.v || '';
  if (x === '' || y === '') return (x === '') - (y === '');     // missing values are last in both directions
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
addEventListener('popstate', () => { read(); apply(); });
watch('value', apply);
read();
apply();
