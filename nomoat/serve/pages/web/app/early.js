// Runs before the first paint: the theme and the language that were chosen before.
(() => {
  try {
    const theme = localStorage.getItem("nomoat.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    const language = localStorage.getItem("nomoat.language");
    if (language === "en" || language === "de") document.documentElement.lang = language;
  } catch {
    // no storage: the system's theme, the browser's language
  }
})();
