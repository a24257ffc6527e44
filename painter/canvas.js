// Clicks and arrow keys on the canvas: choose a variation, go on from an earlier picture, show what was listened to (ask
// the server), look at an earlier picture (does not).
element.addEventListener("click", (event) => {
  const noise = event.target.closest("[data-noise]");
  if (noise) { trigger("choose", { number: Number(noise.dataset.noise) }); return; }
  const branch = event.target.closest("[data-branch]");
  if (branch) { trigger("branch", { rounds: Number(branch.dataset.branch) }); return; }
  if (event.target.closest("[data-attend]")) { trigger("attend"); return; }
  const step = event.target.closest("[data-show]");
  if (!step) return;
  for (const other of element.querySelectorAll("[data-show]")) other.setAttribute("aria-pressed", String(other === step));
  const picture = element.querySelector("#cp-picture");
  const newest = !step.parentElement.nextElementSibling;
  picture.src = newest ? picture.dataset.now : step.dataset.show;
  element.querySelector("#cp-showing").textContent = newest ? picture.dataset.said : "Earlier: " + step.dataset.label;
  const goOn = element.querySelector("#cp-branch");
  goOn.hidden = newest;
  goOn.dataset.branch = step.dataset.rounds;
  const heard = element.querySelector("#cp-heard");
  if (heard) heard.hidden = !newest;
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
// What the session is painted again from, should this tab be reloaded or the server have forgotten it. The page as it
// comes from the server knows nothing yet and says so by carrying no such attribute.
watch("value", () => {
  const remembered = element.querySelector("[data-remembered]")?.dataset.remembered;
  if (remembered) sessionStorage.setItem("chatpainter", remembered);
  else if (remembered === "") sessionStorage.removeItem("chatpainter");
});
if (sessionStorage.getItem("chatpainter")) trigger("restore");
