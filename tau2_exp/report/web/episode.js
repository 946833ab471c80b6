// One episode, or two of a task beside one another, turn by turn.

const KINDS = {
  env_assertion: "Environment assertions",
  action: "Reference actions",
  communicate: "Information communicated",
  db: "Databases",
};

// `shown` holds {row, episode} once or twice; the first is the one that was opened.
function renderEpisodes(shown) {
  const scale = widest(shown, (turn) => turn.advantage);
  const allOwn = shown.every(({ episode }) => episode.turns.every((turn) => turn.own === turn.advantage));
  const ownScale = allOwn ? 0 : widest(shown, (turn) => turn.own);
  const sides = shown.map((side, place) => ({ ...side, scale, ownScale, letter: shown.length > 1 ? "AB"[place] : "" }));
  const length = Math.max(...sides.map(({ episode }) => episode.turns.length));
  const line = (cells, kind, id = null) => h(`div.line.${kind}`, { id }, cells);
  const lines = [line(sides.map(head), "heads"), line(sides.map(strip), "strips")];
  if (shown.some(({ episode }) => episode.tree)) {
    lines.push(line(sides.map((side) => tree(side) || h("section.cell.none")), "trees"));
  }
  if (sides.length > 1) lines.push(h("p.same", {}, sameUntil(sides)));
  lines.push(line(sides.map(opening), "opening"));
  for (let turn = 0; turn < length; turn++) {
    const cells = sides.map((side) => turnCell(side, turn));
    lines.push(line(cells, "turn", `turn-${turn + 1}`));
  }
  lines.push(line(sides.map(ending), "ending"), line(sides.map(checkList), "checks"));
  return h(`div.sides.of-${sides.length}`, {}, lines);
}

function badge({ letter }) {
  return letter ? h(`span.badge.${letter}`, {}, letter) : null;
}

function head(side) {
  const { row, episode } = side;
  const verdict = verdictOf(row);
  const facts = [
    row.run.name,
    `${row.file.name} ${row.i - row.file.first + 1}`,
    `seed ${row.run.seed}`,
    `ended by ${row.stop.replaceAll("_", " ")}`,
    plural(row.turns, "turn"),
    plural(episode.steps || 0, "step"),
    `user: ${episode.user || "unknown"}`,
  ];
  return h(
    "header.cell",
    {},
    h(
      "p.verdict",
      {},
      badge(side),
      h(`strong.${verdict.replace(" ", "-")}`, {}, `${MARKS[verdict]} ${verdict}`),
      ` ${[originOf(row), placeOf(row)].filter(Boolean).join(" · ")}`,
    ),
    h("p.facts", {}, facts.join(" · ")),
    h("p.reward", {}, rewardText(episode)),
    episode.fault ? h("p.fault", {}, `Fault (${episode.fault.source}): ${episode.fault.message}`) : null,
    row.modes.length ? h("p.modes", {}, ...row.modes.map((mode) => h("span.chip", {}, mode))) : null,
  );
}

function rewardText({ reward }) {
  if (!reward) return "No reward: the episode ended in a fault outside the agent.";
  const { outcome, alpha, partial, shaped } = reward;
  const sum = `outcome ${fraction(outcome)} + alpha ${fraction(alpha)} × partial score ${fraction(partial)}`;
  const penalty = outcome + alpha * partial - shaped;
  return `${sum}${penalty > 1e-9 ? ` − penalty ${fraction(penalty)}` : ""} = reward ${fraction(shaped)}`;
}

function jump(turn) {
  document.getElementById(`turn-${turn}`).scrollIntoView({ block: "start" });
}

function sameUntil(sides) {
  const [mine, other] = sides.map(({ episode }) => episode.turns.map((turn) => turn.text));
  const first = mine.findIndex((text, i) => text !== other[i]);
  const turn = first < 0 ? mine.length : first;
  if (turn === mine.length && turn === other.length) return "The agent acted identically in every turn.";
  const link = h("button.link", { type: "button", onclick: () => jump(turn + 1) }, `turn ${turn + 1}`);
  return ["First difference in the agent's actions: ", link, "."];
}

function opening(side) {
  const { episode } = side;
  return h(
    "section.cell",
    {},
    h("h4", {}, badge(side), "Opening", h("small", {}, `Φ ${fraction(episode.phi)}`)),
    episode.opening.map(message),
  );
}

function turnCell(side, i) {
  const turn = side.episode.turns[i];
  if (!turn) return h("section.cell.none");
  const before = i ? side.episode.turns[i - 1] : { parts: side.episode.initial };
  const met = side.episode.checks.filter((check) => check.turn === i + 1);
  return h(
    "section.cell",
    {},
    h("h4", {}, badge(side), `Turn ${i + 1}`, credit(side, turn)),
    turn.error ? h("p.error", {}, `Unparsable: ${turn.error}`) : null,
    turn.error || !turn.messages.length ? h("pre.written", {}, turn.text) : null,
    turn.messages.map(message),
    turn.done ? h("p.done", {}, "The agent ends the episode.") : null,
    met.map((check) =>
      h("p.met", {}, `✓ ${check.kind === "action" ? "reference action" : "communicated"}: ${check.text}`),
    ),
    changes(turn.changes),
    parts(turn, before),
    turn.error || !turn.messages.length
      ? null
      : h("details.raw", {}, h("summary", {}, "raw text"), h("pre.written", {}, turn.text)),
  );
}

function ending(side) {
  const { row, episode } = side;
  const raised = episode.verdict && episode.verdict.raised;
  const words = { agent_stop: "Ended by the agent.", user_stop: "Ended by the user." };
  const unnatural = `Ended by ${row.stop.replaceAll("_", " ")}: τ²-bench scores such episodes 0.`;
  const text = row.outcome === null ? "Ended in a fault." : words[row.stop] || unnatural;
  return h(
    "section.cell",
    {},
    h("h4", {}, badge(side), "End"),
    h("p", {}, text),
    raised ? h("p.error", {}, `The evaluation raised: ${raised}`) : null,
  );
}

function checkList(side) {
  const { episode } = side;
  const groups = Object.entries(KINDS).map(([kind, title]) => [
    title,
    episode.checks.filter((check) => check.kind === kind),
  ]);
  const blocks = groups
    .filter(([, checks]) => checks.length)
    .map(([title, checks]) => [
      h("h5", {}, title, h("small", {}, checks[0].counts ? " count for the outcome" : " do not count for the outcome")),
      h("ul.check-list", {}, checks.map(checkItem)),
    ]);
  const weights = Object.entries(episode.weights)
    .filter(([, weight]) => weight)
    .map(([name, weight]) => `${PARTS[name]} ${weight}`)
    .join(", ");
  return h(
    "section.cell",
    {},
    h("h4", {}, badge(side), "Checks"),
    blocks.length ? blocks : h("p", {}, "None."),
    h("p.note", {}, `Φ is the weighted mean of the parts that the task has; weights: ${weights}.`),
  );
}

function checkItem(check) {
  const [mark, kind, title] =
    check.held === null
      ? ["–", "not-scored", "not judged"]
      : check.held
        ? ["✓", "solved", "held"]
        : ["✗", "failed", "did not hold"];
  const where = [
    check.side && `${check.side === "user" ? "user's" : "agent's"} side`,
    check.turn !== null && (check.turn ? `turn ${check.turn}` : "opening"),
  ].filter(Boolean);
  const label = h(`span.mark.${kind}`, { title, "aria-label": title, role: "img" }, mark);
  return h("li", {}, label, h("span", {}, h("code", {}, check.text), h("small", {}, ` ${where.join(", ")}`)));
}
