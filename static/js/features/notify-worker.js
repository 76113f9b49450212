/* Android shows notifications only through a worker; a press on one leads to the open page, or opens it. */
addEventListener('notificationclick', event => {
  event.notification.close();
  event.waitUntil(lead(event.notification.data));
});

async function lead(data) {
  if (!data) return null;
  const [page] = await self.clients.matchAll({type: 'window', includeUncontrolled: true});
  if (!page) return self.clients.openWindow(`/${data.address}`);
  page.postMessage(data);
  return page.focus();
}
