// The newest words stay in sight; a round can be changed.
watch("value", () => {
  const chat = element.querySelector(".cp-chat");
  if (chat) chat.scrollTop = chat.scrollHeight;
});
element.addEventListener("click", (event) => {
  const round = event.target.closest("[data-edit]");
  if (round) trigger("edit", { round: Number(round.dataset.edit) });
});
