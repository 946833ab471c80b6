// The trajectory viewer: filters and a list on one side, what was opened on the other. Its state is the page's address:
// #episodes&open=RUN/FILE/LINE&with=RUN/FILE/LINE&stop=max_steps&…

const WIDE = matchMedia("(min-width: 60em)"); // the list stands beside what was opened; viewer.css says the same

class Viewer {
  constructor(root, episodes) {
    this.episodes = episodes;
    this.state = {};
    this.drawn = 0; // which drawing is the latest
    this.filters = new Filters(episodes.rows, (change) => this.change(change));
    this.list = new List((row) => this.change({ open: row.id, with: "" }));
    this.count = h("p.count", { role: "status" });
    this.pane = h("article.pane", { "aria-label": "Episode", tabindex: -1 });
    const filters = h("details", { open: WIDE.matches }, h("summary", {}, "Filters"), this.filters.node);
    const found = h("div.found", {}, filters, this.count, this.list.node);
    root.append(h("p.shortcuts", {}, SHORTCUTS), h("div.panes", {}, found, this.pane));
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.read());
    this.draw();
    this.read();
  }

  // Take the state from the address, if it names episodes and this page did not just write it.
  read() {
    const [section, ...rest] = location.hash.slice(1).split("&");
    if (section !== "episodes" || !rest.length || location.hash === this.written) return;
    this.written = "";
    this.state = Object.fromEntries(new URLSearchParams(rest.join("&")));
    this.draw().then(() => (this.state.open ? this.pane : this.count).scrollIntoView());
  }

  change(change) {
    const opened = "open" in change;
    this.state = { ...this.state, ...change };
    const kept = Object.entries(this.state).filter(([, value]) => value);
    const address = `#${["episodes", new URLSearchParams(kept)].join("&")}`;
    if (opened) location.hash = address;
    else location.replace(address);
    this.written = location.hash; // the event comes later
    this.draw().then(() => opened && this.toTop());
  }

  draw() {
    const { rows, byId } = this.episodes;
    const found = chosen(rows, this.state);
    const open = byId.get(this.state.open);
    this.filters.show(this.state);
    this.list.show(found, open);
    this.count.textContent = `${found.length.toLocaleString("en")} of ${plural(rows.length, "episode")}`;
    return this.drawEpisode(open, byId.get(this.state.with));
  }

  async drawEpisode(open, other) {
    const mine = ++this.drawn;
    if (!open) {
      const missing = this.state.open ? `There is no episode ${this.state.open} here.` : "Choose an episode.";
      this.fill(h("p.note", {}, missing));
      return;
    }
    try {
      const shown = await Promise.all(
        [open, other].filter(Boolean).map(async (row) => ({ row, episode: await this.episodes.whole(row) })),
      );
      if (mine === this.drawn) {
        this.fill(h("h3", {}, breakable(open.task)), this.tools(open, other), renderEpisodes(shown));
      }
    } catch (error) {
      if (mine === this.drawn) this.fill(h("p.error", {}, error.message));
    }
  }

  // Keyboard focus within the pane is kept.
  fill(...nodes) {
    const focused = this.pane.contains(document.activeElement);
    this.pane.replaceChildren(...nodes);
    if (focused) this.pane.focus({ preventScroll: true });
  }

  tools(open, other) {
    const button = (title, onclick, kind = "") => h(`button${kind}`, { type: "button", onclick }, title);
    const ways = [
      button("Back to the list", () => this.count.scrollIntoView(), ".to-list"),
      button("Previous", () => this.list.move(-1)),
      button("Next", () => this.list.move(1)),
    ];
    const attempts = this.attempts(open);
    if (!attempts.length) return h("div.tools", {}, ways, h("span.note", {}, "The only attempt at this task."));
    const comparing = other
      ? button("Stop comparing", () => this.change({ with: "" }))
      : button("Compare", () => this.compare());
    return h(
      "div.tools",
      {},
      ways,
      comparing,
      h("label", {}, "with another attempt at this task", this.menu(attempts, other)),
    );
  }

  menu(attempts, other) {
    const menu = h(
      "select",
      { name: "with", onchange: () => this.change({ with: menu.value }) },
      h("option", { value: "" }, "none"),
    );
    const runs = new Map();
    for (const row of attempts) runs.set(row.run, [...(runs.get(row.run) || []), row]);
    for (const [run, rows] of runs)
      menu.append(h("optgroup", { label: `${run.stage} ${run.arm} (${run.name})` }, rows.map(attemptOption)));
    menu.value = other ? other.id : "";
    return menu;
  }

  attempts(open) {
    return this.episodes.rows.filter((row) => row.task === open.task && row !== open);
  }

  // Beside the best attempt at the task, or beside the worst where this is the best: of its group, else of its file,
  // else of all. Of equals the nearest.
  compare() {
    const open = this.episodes.byId.get(this.state.open);
    const attempts = open ? this.attempts(open) : [];
    if (!attempts.length) return;
    const same = (row) => row.file === open.file;
    const pools = [attempts.filter((row) => same(row) && row.step === open.step), attempts.filter(same), attempts];
    const pool = pools.find((rows) => rows.some((row) => byWorth(row, open))) || pools.find((rows) => rows.length);
    const near = (a, b) => Math.abs(a.i - open.i) - Math.abs(b.i - open.i);
    const sorted = [...pool].sort((a, b) => byWorth(a, b) || near(a, b));
    const worst = sorted.find((row) => byWorth(row, sorted[sorted.length - 1]) === 0);
    this.change({ with: (byWorth(sorted[0], open) < 0 ? sorted[0] : worst).id });
  }

  toTop() {
    const { top } = this.pane.getBoundingClientRect();
    if (!WIDE.matches || top < 48 || top > innerHeight / 2) this.pane.scrollIntoView({ block: "start" });
  }

  key(event) {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const deeds = {
      j: () => this.list.move(1),
      k: () => this.list.move(-1),
      c: () => (this.state.with ? this.change({ with: "" }) : this.compare()),
      "/": () => this.search(),
    };
    if (!deeds[event.key]) return;
    event.preventDefault();
    deeds[event.key]();
  }

  search() {
    const box = this.filters.node.closest("details");
    box.open = true;
    this.filters.search.focus();
  }
}

// A task's id is long, and best broken between its parts.
function breakable(text) {
  return text.split(/(?<=[|\]_])/).flatMap((piece) => [piece, h("wbr")]);
}

const SHORTCUTS = ["j next", "k previous", "c compare", "/ search"].map((text) => [
  h("kbd", {}, text[0]),
  text.slice(1),
  " ",
]);

function attemptOption(row) {
  const worthOf = row.shaped === null ? "" : ` · ${fraction(row.shaped)}`;
  const words = `${MARKS[verdictOf(row)]} ${row.file.name} ${placeOf(row)}${worthOf} · ${plural(row.turns, "turn")}`;
  return h("option", { value: row.id }, words);
}

for (const root of document.querySelectorAll(".viewer[data-folder]")) {
  Episodes.open(root.dataset.folder).then(
    (episodes) => new Viewer(root, episodes),
    (error) => root.append(h("p.error", {}, error.message)),
  );
}
