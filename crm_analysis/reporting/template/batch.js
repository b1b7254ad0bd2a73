(() => {
  const form = document.getElementById("find");
  if (!form) return;
  form.hidden = false;
  const words = form.elements.words;
  const said = document.getElementById("found");
  const entries = [...document.querySelectorAll("[data-entry]")];
  const plain = (text) => text.toLowerCase().replaceAll("ё", "е");
  const texts = new Map(entries.map((e) => {
    const place = e.closest("[data-place]");
    return [e, plain(`${place ? place.dataset.place : ""} ${e.dataset.period} ${e.dataset.words} ${e.textContent}`)];
  }));
  const chosen = (name) => (form.elements[name] ? form.elements[name].value : "");
  const show = () => {
    const asked = plain(words.value).split(/\s+/).filter(Boolean);
    const period = chosen("period"), reader = chosen("reader");
    const narrowed = asked.length > 0 || period !== "" || reader !== "";
    let count = 0;
    for (const entry of entries) {
      const text = texts.get(entry);
      const fits = asked.every((word) => text.includes(word)) &&
        (period === "" || entry.dataset.period === period) &&
        (reader === "" || entry.dataset.reader === reader);
      entry.hidden = !fits;
      count += fits ? 1 : 0;
    }
    for (const box of document.querySelectorAll("[data-box]")) {
      box.hidden = !box.querySelector("[data-entry]:not([hidden])");
      if (box.tagName === "DETAILS") box.open = narrowed && !box.hidden;
    }
    said.textContent = narrowed ? said.dataset.text.replace("{n}", count) : "";
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
  show();
})();
