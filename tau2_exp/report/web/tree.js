// A trunk and what was played on from it: one row an episode, one cell a turn, coloured by the credit that it got.

function tree(side) {
  const { row, episode } = side;
  if (!episode.tree) return null;
  const { rows, points } = episode.tree;
  const scale = Math.max(1e-9, ...rows.flatMap(({ advantages }) => (advantages || []).map(Math.abs)));
  const turns = Math.max(...rows.map((one) => one.turns));
  const fork = new Map(points.map((point) => [point.turn, point]));
  const lines = rows.map((one, place) => {
    const begins = place > 0 && one.first !== rows[place - 1].first;
    return [begins ? forkLine(fork.get(one.first)) : null, treeLine(row, one, place, scale)];
  });
  return h(
    "section.cell.tree",
    { style: `--turns: ${turns}`, "aria-label": "Tree of continuations" },
    h("h4", {}, badge(side), "Played on from", h("small", {}, `advantage by colour (±${fraction(scale)})`)),
    lines,
  );
}

// V̂ of a point, above what was played on from there.
function forkLine({ turn, value }) {
  const words = `${value === null ? "not scored" : `V̂ ${fraction(value)}`} before turn ${turn + 1}`;
  return h("div.branch.fork", {}, h("span.from", { style: `grid-column: ${turn + 2} / -1` }, words));
}

function treeLine(row, one, place, scale) {
  const own = Array.from({ length: one.turns - one.first }, (_, i) => {
    const advantage = one.advantages && one.advantages[i];
    const title = `Turn ${one.first + i + 1}${one.advantages ? `: advantage ${signed(advantage)}` : ""}`;
    const size = Math.round((100 * Math.abs(advantage || 0)) / scale);
    const colour = `color-mix(in srgb, var(--${advantage < 0 ? "bad" : "good"}) ${size}%, var(--back))`;
    return h("span.step", { title, style: `grid-column: ${one.first + i + 2}; background: ${colour}` });
  });
  const verdict = verdictOf(one);
  const name = place ? `continuation ${place}` : "trunk";
  const id = `${row.run.name}/${row.file.name}/${row.i - row.file.first + 1 + one.offset}`;
  const address = `#${["episodes", new URLSearchParams({ open: id })].join("&")}`;
  return h(
    "div.branch",
    {},
    h("span.name", {}, one.offset ? h("a", { href: address }, name) : h("strong", {}, name)),
    own,
    h(`span.mark.${verdict.replace(" ", "-")}`, { title: verdict, style: `grid-column: ${one.turns + 2}` }, MARKS[verdict]),
  );
}
