// Runs before the page is drawn, so that the other theme does not flash first.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* storage is blocked: the system's theme stays */ }
