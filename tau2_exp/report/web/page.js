// Draws each figure when it comes near the window, and again when the reader turns to dark or to light.
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const settings = { responsive: true, displaylogo: false, displayModeBar: false };

  function draw(place) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const layout = { ...figure.layout, template: templates[dark.matches ? "dark" : "light"] };
    return Plotly.react(place.querySelector(".plot"), figure.data, layout, settings);
  }

  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) {
        near.unobserve(target);
        draw(target).then(() => { target.dataset.drawn = "yes"; });
      }
    }
  }, { rootMargin: "800px" });
  for (const place of document.querySelectorAll(".chart")) near.observe(place);
  dark.addEventListener("change", () => document.querySelectorAll(".chart[data-drawn]").forEach(draw));
})();
