// One episode, or two of a task beside one another, turn by turn.

const LONG = 220; // letters of a tool's result that are shown before it is opened
const PARTS = { action: "actions", communicate: "communicated", env_assertion: "assertions", db: "databases", db_progress: "database fields" };
const KINDS = {
  env_assertion: "Environment assertions",
  action: "Reference actions",
  communicate: "Information communicated",
  db: "Databases",
};

// `shown` holds {row, episode} once or twice; the first is the one that was opened.
function renderEpisodes(shown) {
  const scale = widest(shown, (turn) => turn.advantage);
  const ownScale = widest(shown, (turn, group) => own(turn, group));
  const sides = shown.map((side, place) => ({ ...side, scale, ownScale, letter: shown.length > 1 ? "AB"[place] : "" }));
  const length = Math.max(...sides.map(({ episode }) => episode.turns.length));
  const line = (cells, kind, id = null) => h(`div.line.${kind}`, { id }, cells);
  const lines = [line(sides.map(head), "heads"), line(sides.map(strip), "strips")];
  if (sides.length > 1) lines.push(h("p.same", {}, sameUntil(sides)));
  lines.push(line(sides.map(opening), "opening"));
  for (let turn = 0; turn < length; turn++) lines.push(line(sides.map((side) => turnCell(side, turn)), "turn", `turn-${turn + 1}`));
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
    h("p.verdict", {}, badge(side), h(`strong.${verdict.replace(" ", "-")}`, {}, `${MARKS[verdict]} ${verdict}`), ` ${originOf(row)} ${placeOf(row)}`),
    h("p.facts", {}, facts.join(" · ")),
    h("p.reward", {}, rewardText(episode)),
    episode.fault ? h("p.fault", {}, `Fault of the ${episode.fault.source}: ${episode.fault.message}`) : null,
    row.modes.length ? h("p.modes", {}, row.modes.map((mode) => h("span.chip", {}, mode))) : null,
  );
}

function rewardText({ reward }) {
  if (!reward) return "No reward: a fault that is not the agent's spoiled the episode.";
  const sum = `outcome ${fraction(reward.outcome)} + alpha ${fraction(reward.alpha)} × partial score ${fraction(reward.partial)}`;
  const penalty = reward.outcome + reward.alpha * reward.partial - reward.shaped;
  return `${sum}${penalty > 1e-9 ? ` − penalty ${fraction(penalty)}` : ""} = reward ${fraction(reward.shaped)}`;
}

// One column a turn: how the partial score then stood, the advantage, and the part of it that is this turn's own.
function strip(side) {
  const { episode, scale, ownScale } = side;
  const { group } = episode;
  const rows = [["phi", "Φ after the turn"]];
  if (group) rows.push(["axis", `advantage (±${fraction(scale)})`]);
  if (group && ownScale > FINE) rows.push(["axis", `the turn's own (±${ownScale.toFixed(3)})`]);
  const columns = episode.turns.map((turn, i) =>
    h(
      "button.column",
      { type: "button", title: describeTurn(turn, i, group), "aria-label": describeTurn(turn, i, group), onclick: () => jump(i + 1) },
      h("span.phi", {}, h("span", { class: turn.progress ? "fill moved" : "fill", style: `height: ${100 * turn.phi}%` })),
      rows.length > 1 ? h("span.axis", {}, bar(turn.advantage, scale, "vertical")) : null,
      rows.length > 2 ? h("span.axis", {}, bar(own(turn, group), ownScale, "vertical")) : null,
    ),
  );
  return h(
    "div.cell",
    {},
    h("div.strip", {}, h("div.labels", {}, rows.map(([kind, title]) => h(`span.${kind}`, {}, title))), columns),
    h("p.note", {}, badge(side), episode.note, group && ownScale > FINE ? ` Every turn received ${signed(group.share)} for the episode as a whole; the rest is its own.` : null),
  );
}

const FINE = 5e-4; // differences below this are shown as 0.000

function describeTurn(turn, i, group) {
  const received = group ? `, advantage ${signed(turn.advantage)}, of it the turn's own ${signed(own(turn, group), 3)}` : "";
  return `Turn ${i + 1}: Φ ${fraction(turn.phi)} (${signed(turn.progress)})${received}`;
}

// The part of a turn's advantage that other turns of its episode did not receive.
function own(turn, group) {
  return turn.advantage - group.share;
}

// The largest of what the turns of all shown groups received.
function widest(shown, value) {
  const given = shown.filter(({ episode }) => episode.group);
  return Math.max(1e-9, ...given.flatMap(({ episode }) => episode.turns.map((turn) => Math.abs(value(turn, episode.group)))));
}

function bar(value, scale, direction) {
  const size = (50 * Math.abs(value)) / scale;
  const [start, length] = direction === "vertical" ? ["top", "height"] : ["left", "width"];
  const from = (value > 0) === (direction === "vertical") ? 50 - size : 50;
  return h("span", { class: `bar ${value < 0 ? "minus" : "plus"}`, style: `${start}: ${from}%; ${length}: ${size}%` });
}

function jump(turn) {
  document.getElementById(`turn-${turn}`).scrollIntoView({ block: "start" });
}

function sameUntil(sides) {
  const deeds = sides.map(({ episode }) => episode.turns.map((turn) => JSON.stringify([turn.messages[0] && { ...turn.messages[0], id: "" }, turn.text])));
  const first = deeds[0].findIndex((deed, i) => deed !== deeds[1][i]);
  const turn = first < 0 ? deeds[0].length : first;
  if (turn === deeds[0].length && turn === deeds[1].length) return "The agent did the same in every turn.";
  const link = h("button.link", { type: "button", onclick: () => jump(turn + 1) }, `turn ${turn + 1}`);
  return ["The agent first does something else in ", link, "."];
}

function opening(side) {
  const { episode } = side;
  return h("section.cell", {}, h("h4", {}, badge(side), "Opening", h("small", {}, `Φ ${fraction(episode.phi)}`)), episode.opening.map(message));
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
    turn.error ? h("p.error", {}, `Could not be read: ${turn.error}`) : null,
    turn.error || !turn.messages.length ? h("pre.written", {}, turn.text) : null,
    turn.messages.map(message),
    turn.done ? h("p.done", {}, "The agent ends the episode.") : null,
    met.map((check) => h("p.met", {}, `✓ ${check.kind === "action" ? "reference action" : "communicated"}: ${check.text}`)),
    changes(turn.changes),
    parts(turn, before),
    turn.error || !turn.messages.length ? null : h("details.raw", {}, h("summary", {}, "as written"), h("pre.written", {}, turn.text)),
  );
}

// What the turn received: all of it as a bar around zero, and how much of it is its own.
function credit(side, turn) {
  const { group } = side.episode;
  if (!group) return null;
  const mine = side.ownScale > FINE ? h("small", {}, ` (own ${signed(own(turn, group), 3)})`) : null;
  const track = h("span.track", { "aria-hidden": "true" }, bar(turn.advantage, side.scale, "horizontal"));
  return h("span.credit", {}, track, h("span.number", {}, `advantage ${signed(turn.advantage)}`, mine));
}

function parts(turn, before) {
  const old = before.parts || {};
  const chips = Object.entries(PARTS)
    .filter(([name]) => turn.parts && turn.parts[name] !== undefined)
    .map(([name, title]) => {
      const change = turn.parts[name] - (old[name] || 0);
      const moved = Math.abs(change) > 1e-9;
      return h(`span.chip${moved ? ".moved" : ""}`, {}, `${title} ${fraction(turn.parts[name])}${moved ? ` (${signed(change)})` : ""}`);
    });
  const moved = Math.abs(turn.progress) > 1e-9;
  return h("p.parts", {}, h(`span.chip.phi-chip${moved ? ".moved" : ""}`, {}, `Φ ${fraction(turn.phi)}${moved ? ` (${signed(turn.progress)})` : ""}`), chips);
}

function changes(found) {
  const entries = Object.entries(found || {});
  if (!entries.length) return null;
  const values = entries.map(([path, value]) => h("li", {}, h("code", {}, path), " → ", h("code", {}, value === null ? "as at the start" : JSON.stringify(value))));
  return h("div.changes", {}, h("p", {}, "Changed in the world"), h("ul", {}, values));
}

function message(said) {
  const by = said.role === "tool" ? said.requestor : said.role;
  const who = by === "user" ? "User" : "Agent";
  if (said.role === "tool") return result(said, who);
  return [
    said.content ? h(`div.said.${who.toLowerCase()}`, {}, h("span.who", {}, who), h("p", {}, said.content)) : null,
    (said.tool_calls || []).map((call) =>
      h(`div.call.${who.toLowerCase()}`, {}, h("span.who", {}, `${who} calls`), h("code", {}, h("b", {}, call.name), `(${callArguments(call)})`)),
    ),
  ];
}

function callArguments(call) {
  return Object.entries(call.arguments).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(", ");
}

function result(said, who) {
  const text = said.content || "";
  const kind = `result.${who.toLowerCase()}${said.error ? ".failed" : ""}`;
  const title = h("span.who", {}, said.error ? "Error" : "Result");
  if (text.length <= LONG) return h(`div.${kind}`, {}, title, h("pre", {}, text));
  return h(`details.${kind}`, {}, h("summary", {}, title, h("code", {}, `${text.slice(0, LONG / 2)}…`)), h("pre", {}, pretty(text)));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function ending(side) {
  const { row, episode } = side;
  const raised = episode.verdict && episode.verdict.raised;
  const words = { agent_stop: "The agent ended it.", user_stop: "The user ended it." };
  const unnatural = `Ended by ${row.stop.replaceAll("_", " ")}: τ²-bench judges no episode that ends like this, and its outcome is 0.`;
  const text = row.stop === "fault" && row.outcome === null ? "A fault ended it." : words[row.stop] || unnatural;
  return h("section.cell", {}, h("h4", {}, badge(side), "End"), h("p", {}, text), raised ? h("p.error", {}, `The evaluation raised: ${raised}`) : null);
}

function checkList(side) {
  const { episode } = side;
  const groups = Object.entries(KINDS).map(([kind, title]) => [title, episode.checks.filter((check) => check.kind === kind)]);
  const blocks = groups.filter(([, checks]) => checks.length).map(([title, checks]) => [
    h("h5", {}, title, h("small", {}, checks[0].counts ? " count for the outcome" : " do not count for the outcome")),
    h("ul.check-list", {}, checks.map(checkItem)),
  ]);
  const weights = Object.entries(episode.weights).filter(([, weight]) => weight).map(([name, weight]) => `${PARTS[name]} ${weight}`).join(", ");
  return h("section.cell", {}, h("h4", {}, badge(side), "What was checked"), blocks.length ? blocks : h("p", {}, "Nothing."), h("p.note", {}, `Φ is the weighted mean of the parts that the task has; weights: ${weights}.`));
}

function checkItem(check) {
  const [mark, kind, title] =
    check.held === null ? ["–", "not-scored", "not judged"] : check.held ? ["✓", "solved", "held"] : ["✗", "failed", "did not hold"];
  const where = [
    check.side && `${check.side === "user" ? "user's" : "agent's"} side`,
    check.turn !== null && (check.turn ? `turn ${check.turn}` : "opening"),
  ].filter(Boolean);
  const label = h(`span.mark.${kind}`, { title, "aria-label": title, role: "img" }, mark);
  return h("li", {}, label, h("span", {}, h("code", {}, check.text), h("small", {}, ` ${where.join(", ")}`)));
}
