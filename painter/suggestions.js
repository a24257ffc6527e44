// A click on an suggestion says it.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-text]");
  if (button) trigger("pick", { text: button.dataset.text });
});
