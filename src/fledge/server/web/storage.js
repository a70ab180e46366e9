// What the page remembers: JSON in the browser's storage.

export function load(store, name, otherwise) {
  try {
    return JSON.parse(store.getItem(name)) ?? otherwise;
  } catch {
    return otherwise; // storage is off or holds something else
  }
}

export function save(store, name, value) {
  try {
    store.setItem(name, JSON.stringify(value));
  } catch {
    // Storage is off or full: the page works, it only forgets.
  }
}
