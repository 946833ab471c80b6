// What is shown of all episodes, and in which order. Choices live in the page's address, so that they can be linked to.

const FILTERS = {
  stage: ["Stage", (row) => [row.run.stage]],
  arm: ["Arm", (row) => (row.run.arm ? [row.run.arm] : [])],
  seed: ["Seed", (row) => [row.run.seed]],
  run: ["Run", (row) => [row.run.name]],
  split: ["Split", (row) => [row.file.split + (row.file.greedy ? " greedy" : "")]],
  domain: ["Domain", (row) => [row.domain]],
  outcome: ["Outcome", (row) => [verdictOf(row)]],
  stop: ["Ended by", (row) => [row.stop]],
  fault: ["Fault", (row) => (row.fault ? [row.fault] : [])],
  mode: ["Failure mode", (row) => row.modes],
};

const ORDERS = {
  recorded: ["as recorded", (a, b) => a.i - b.i],
  best: ["best first", (a, b) => byWorth(a, b) || a.i - b.i],
  worst: ["worst first", (a, b) => byWorth(b, a) || a.i - b.i],
  longest: ["longest first", (a, b) => b.turns - a.turns || a.i - b.i],
  task: ["by task", (a, b) => (a.task < b.task ? -1 : a.task > b.task ? 1 : byWorth(a, b) || a.i - b.i)],
};

// The better one first: by outcome, and only then by reward, which runs with another alpha count differently.
function byWorth(a, b) {
  const [mine, other] = [a, b].map((row) => (row.outcome === null ? -1 : row.outcome));
  return other - mine || b.shaped - a.shaped;
}

function chosen(rows, state) {
  const wanted = Object.keys(FILTERS).filter((name) => state[name]);
  const text = (state.text || "").toLowerCase();
  const kept = rows.filter(
    (row) =>
      (!text || row.task.toLowerCase().includes(text)) &&
      wanted.every((name) => FILTERS[name][1](row).includes(state[name])),
  );
  return kept.sort((ORDERS[state.sort] || ORDERS.recorded)[1]);
}

class Filters {
  constructor(rows, onChange) {
    this.onChange = onChange;
    this.search = h("input", { type: "search", placeholder: "part of a task's id", "aria-keyshortcuts": "/" });
    this.search.addEventListener("input", () => onChange({ text: this.search.value }));
    this.selects = {};
    const shown = Object.keys(FILTERS).map((name) => this.select(name, rows));
    this.selects.sort = this.menu(
      "sort",
      Object.entries(ORDERS).map(([value, [title]]) => [value, title]),
    );
    this.node = h(
      "form.filters",
      { role: "search", "aria-label": "Filter episodes", onsubmit: (event) => event.preventDefault() },
      h("label.wide", {}, "Task", this.search),
      shown,
      h("label", {}, "Order", this.selects.sort),
      h("button", { type: "button", onclick: () => this.clear() }, "Show all"),
    );
  }

  // A filter that has nothing to choose between is left out.
  select(name, rows) {
    const [title, values] = FILTERS[name];
    const counts = new Map();
    for (const row of rows) for (const value of values(row)) counts.set(value, (counts.get(value) || 0) + 1);
    const every = counts.size === 1 && [...counts.values()][0] === rows.length;
    const options = [...counts].sort().map(([value, count]) => [value, `${value} (${count.toLocaleString("en")})`]);
    this.selects[name] = this.menu(name, [["", "all"], ...options]);
    return counts.size && !every ? h("label", {}, title, this.selects[name]) : null;
  }

  menu(name, options) {
    const node = h("select", { name, onchange: () => this.onChange({ [name]: node.value }) });
    node.append(...options.map(([value, title]) => h("option", { value }, title)));
    return node;
  }

  clear() {
    this.onChange({ text: "", ...Object.fromEntries(Object.keys(FILTERS).map((name) => [name, ""])) });
  }

  show(state) {
    if (this.search.value !== (state.text || "")) this.search.value = state.text || "";
    for (const [name, node] of Object.entries(this.selects))
      node.value = state[name] || (name === "sort" ? "recorded" : "");
  }
}
