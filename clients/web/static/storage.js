// What a reader chose, kept by the browser; where it keeps nothing (cookies are blocked), by this page alone.

/** `localStorage` or `sessionStorage` by its name, or what stands for it. */
export function storage(name) {
  try {
    return window[name]; // throws where it is blocked
  } catch {
    const held = new Map();
    return { getItem: (key) => held.get(key) ?? null, setItem: (key, text) => held.set(key, text), removeItem: (key) => held.delete(key) };
  }
}
