// The newest words stay in sight.
watch("value", () => {
  const chat = element.querySelector(".cp-chat");
  if (chat) chat.scrollTop = chat.scrollHeight;
});
