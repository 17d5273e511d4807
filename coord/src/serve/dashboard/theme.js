// Runs before anything is painted, so that a chosen theme never flashes. Without a choice
// the system's own holds.
"use strict";
try {
  const chosen = localStorage.getItem("hybridgrid-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is shut: the system's own.
}
