// The list of episodes: only the rows in sight are in the document, however many there are.

const ROW = 60; // pixels; viewer.css says the same

class List {
  constructor(onOpen) {
    this.rows = [];
    this.selected = -1;
    this.onOpen = onOpen;
    this.inner = h("div.rows", { role: "presentation" });
    this.node = h("div.list", { role: "listbox", tabindex: 0, "aria-label": "Episodes" }, this.inner);
    this.node.addEventListener("scroll", () => this.paint());
    this.node.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.paint()).observe(this.node);
  }

  show(rows, selected) {
    this.rows = rows;
    this.inner.style.height = `${rows.length * ROW}px`;
    this.select(selected);
  }

  select(row) {
    this.selected = this.rows.indexOf(row);
    if (this.selected >= 0) {
      const top = this.selected * ROW;
      const { scrollTop, clientHeight } = this.node;
      if (top < scrollTop || top + ROW > scrollTop + clientHeight) this.node.scrollTop = top - clientHeight / 3;
    }
    this.paint();
  }

  // Open the row so many places further.
  move(by) {
    const next = Math.min(Math.max(this.selected + by, 0), this.rows.length - 1);
    if (this.rows[next] && next !== this.selected) this.onOpen(this.rows[next]);
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.move(steps[event.key]);
  }

  paint() {
    const first = Math.max(Math.floor(this.node.scrollTop / ROW) - 4, 0);
    const last = Math.min(first + Math.ceil(this.node.clientHeight / ROW) + 8, this.rows.length);
    const shown = [];
    for (let place = first; place < last; place++) shown.push(this.option(place));
    this.inner.replaceChildren(...shown);
    const active = this.selected >= first && this.selected < last;
    if (active) this.node.setAttribute("aria-activedescendant", `episode-${this.selected}`);
    else this.node.removeAttribute("aria-activedescendant");
  }

  option(place) {
    const row = this.rows[place];
    const verdict = verdictOf(row);
    return h(
      "div.row",
      {
        id: `episode-${place}`,
        role: "option",
        style: `top: ${place * ROW}px`,
        "aria-selected": String(place === this.selected),
        "aria-setsize": this.rows.length,
        "aria-posinset": place + 1,
        onclick: () => this.onOpen(row),
      },
      h(`span.mark.${verdict.replace(" ", "-")}`, { title: verdict }, MARKS[verdict]),
      h("span.task", { title: row.task }, row.task),
      h("span.origin", { title: originOf(row) }, originOf(row)),
      h(
        "span.ending",
        {},
        [placeOf(row), row.stop.replaceAll("_", " "), plural(row.turns, "turn")].filter(Boolean).join(" · "),
      ),
    );
  }
}
