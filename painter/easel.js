// Clicks and arrow keys on the easel: choose a variation (asks the server), look at an earlier picture (does not).
element.addEventListener("click", (event) => {
  const noise = event.target.closest("[data-noise]");
  if (noise) { trigger("choose", { number: Number(noise.dataset.noise) }); return; }
  const step = event.target.closest("[data-show]");
  if (!step) return;
  for (const other of element.querySelectorAll("[data-show]")) other.setAttribute("aria-pressed", String(other === step));
  const picture = element.querySelector("#cp-picture");
  const newest = !step.parentElement.nextElementSibling;
  picture.src = newest ? picture.dataset.now : step.dataset.show;
  element.querySelector("#cp-showing").textContent = newest ? picture.dataset.said : "Earlier: " + step.dataset.label;
});
element.addEventListener("keydown", (event) => {
  const noise = event.target.closest("[data-noise]");
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!noise || !step) return;
  event.preventDefault();
  const all = [...element.querySelectorAll("[data-noise]")];
  const next = (Number(noise.dataset.noise) + step + all.length) % all.length;
  trigger("choose", { number: next });
});
watch("value", () => {
  const strip = element.querySelector(".cp-strip");
  if (strip) strip.scrollLeft = strip.scrollWidth;
});
