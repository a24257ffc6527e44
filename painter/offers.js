// A click on an offered text says it.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-text]");
  if (button) trigger("offer", { text: button.dataset.text });
});
