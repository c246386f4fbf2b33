// Storage for the user's choices. If the browser blocks storage, they last as long as the page.

/** `localStorage` or `sessionStorage` by its name, or a substitute in memory. */
export function storage(name) {
  try {
    return window[name]; // throws where it is blocked
  } catch {
    const held = new Map();
    return { getItem: (key) => held.get(key) ?? null, setItem: (key, text) => held.set(key, text), removeItem: (key) => held.delete(key) };
  }
}
