// The newest words stay in sight.
watch("value", () => {
  const talk = element.querySelector(".cp-talk");
  if (talk) talk.scrollTop = talk.scrollHeight;
});
