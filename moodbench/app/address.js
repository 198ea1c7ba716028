// The server sends the canonical query of the state that it has rendered; only the browser knows the sort order.
// A tab is a new entry of the history from the moment when a visitor opens it, so that Back returns to the tab before
// it however late the server answers. An answer changes the entry of its own tab alone: none if that tab was left.
const tabOf = url => url.searchParams.get('tab') || 'leaderboard';
let isRead = false;
function sync() {
  const sent = element.querySelector('[data-query]'); if (!sent) return;
  const url = new URL(location.href), sort = url.searchParams.get('sort'), before = tabOf(url);
  url.search = sent.dataset.query;
  if (sort) url.searchParams.set('sort', sort);
  if (isRead && tabOf(url) !== before) return;
  if (url.href !== location.href) history.replaceState(history.state, '', url);
  isRead = true;
}
watch('value', sync);
sync();
document.addEventListener('mb-tab', event => {
  const url = new URL(location.href); if (!isRead || tabOf(url) === event.detail) return;
  if (event.detail === 'leaderboard') url.searchParams.delete('tab'); else url.searchParams.set('tab', event.detail);
  history.pushState(history.state, '', url);
});
addEventListener('popstate', () => {
  const button = document.getElementById(`tab-${tabOf(new URL(location.href))}-button`); if (button) button.click();
});
// A link to the view gets the current address, which includes the sort order, when it is hovered, focused or clicked.
for (const reached of ['pointerover', 'focusin', 'click']) document.addEventListener(reached, event => {
  const link = event.target.closest && event.target.closest('a.mb-link'); if (link) link.href = location.search || '?';
}, true);
