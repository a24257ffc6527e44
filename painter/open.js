// A saved file is read here: only words leave the browser, of a picture the text that it carries.
const MOST = 16 * 1024 * 1024;
const TEXT = 2 * 1000 * 1000;

// The uncompressed iTXt chunk with our keyword: keyword 0 flag method language 0 translated-keyword 0 text.
function wordsOf(bytes) {
  const view = new DataView(bytes.buffer);
  const latin = new TextDecoder("latin1");
  for (let place = 8; place + 12 <= bytes.length;) {
    const length = view.getUint32(place);
    const body = bytes.subarray(place + 8, place + 8 + length);
    if (latin.decode(bytes.subarray(place + 4, place + 8)) === "iTXt") {
      const end = body.indexOf(0);
      const language = body.indexOf(0, end + 3);
      const keyword = body.indexOf(0, language + 1);
      if (latin.decode(body.subarray(0, end)) === "chatpainter" && body[end + 1] === 0 && keyword > 0) {
        return body.subarray(keyword + 1);
      }
    }
    place += 12 + length;
  }
  return new Uint8Array();
}

element.addEventListener("change", async (event) => {
  const file = event.target.files?.[0];
  if (!file) return;
  let text = "";
  if (file.size <= MOST) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const words = bytes[0] === 0x89 && bytes[1] === 0x50 ? wordsOf(bytes) : bytes;
    if (words.length <= TEXT) text = new TextDecoder().decode(words);
  }
  event.target.value = "";
  trigger("open", { text });
});
