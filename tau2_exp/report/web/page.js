// Draws each figure when it comes near the window, and again when the reader turns to dark or to light.
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };
  const opened = new Promise((done) => addEventListener("load", () => setTimeout(done)));
  let library = null;

  // plotly lies in the page as text, so that the page and its list of episodes are there before five megabytes are
  // compiled.
  function plotly() {
    library ??= opened.then(() => {
      const script = document.createElement("script");
      script.textContent = document.getElementById("plotly").textContent;
      document.head.append(script);
      return window.Plotly;
    });
    return library;
  }

  async function draw(place) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const { react } = await plotly();
    const layout = { ...figure.layout, template: templates[dark.matches ? "dark" : "light"] };
    place.dataset.drawn = "yes";
    await react(place.querySelector(".plot"), chosen(place, figure.data), layout, settings);
  }

  // Of lines with keys those whose keys are pressed; all, where none is.
  function chosen(place, lines) {
    const keys = place.parentElement.previousElementSibling;
    if (!keys?.matches(".keys")) return lines;
    const pressed = [...keys.querySelectorAll("button")].map(isPressed);
    return lines.map((line) => ({ ...line, visible: !pressed.includes(true) || pressed[line.legendgroup] }));
  }

  function isPressed(key) {
    return key.getAttribute("aria-pressed") === "true";
  }

  for (const key of document.querySelectorAll(".keys button")) {
    key.addEventListener("click", () => {
      key.setAttribute("aria-pressed", String(!isPressed(key)));
      key.closest(".keys").nextElementSibling.querySelectorAll(".chart[data-drawn]").forEach(draw);
    });
  }

  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) {
        near.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "800px" });
  for (const place of document.querySelectorAll(".chart")) near.observe(place);
  dark.addEventListener("change", () => document.querySelectorAll(".chart[data-drawn]").forEach(draw));
})();
