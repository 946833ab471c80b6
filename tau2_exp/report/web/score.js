// What each turn earned and received: the partial score, its parts, and the advantage.

const PARTS = {
  action: "actions",
  communicate: "communicated",
  env_assertion: "assertions",
  db: "databases",
  db_progress: "database fields",
};

// One column a turn: how the partial score then stood, the advantage, and the part of it that is this turn's own.
function strip(side) {
  const { episode, scale, ownScale } = side;
  const { group } = episode;
  const rows = [["phi", "Φ after the turn"]];
  if (group) rows.push(["axis", `advantage (±${fraction(scale)})`]);
  if (group && ownScale > FINE) rows.push(["axis", `turn-specific (±${ownScale.toFixed(3)})`]);
  const columns = episode.turns.map((turn, i) => {
    const title = describeTurn(turn, i, group);
    const fill = { class: turn.progress ? "fill moved" : "fill", style: `height: ${100 * turn.phi}%` };
    return h(
      "button.column",
      { type: "button", title, "aria-label": title, onclick: () => jump(i + 1) },
      h("span.phi", {}, h("span", fill)),
      rows.length > 1 ? h("span.axis", {}, bar(turn.advantage, scale, "vertical")) : null,
      rows.length > 2 ? h("span.axis", {}, bar(turn.own, ownScale, "vertical")) : null,
    );
  });
  const labels = rows.map(([kind, title]) => h(`span.${kind}`, {}, title));
  const whole = rows.length > 2 && " What is not turn-specific a turn received for its episode's outcome.";
  return h(
    "div.cell",
    {},
    h("div.strip", {}, h("div.labels", {}, labels), columns),
    h("p.note", {}, badge(side), episode.note, whole),
  );
}

const FINE = 5e-4; // differences below this are shown as 0.000

function describeTurn(turn, i, group) {
  const received = group
    ? `, advantage ${signed(turn.advantage)}, of which turn-specific ${signed(turn.own, 3)}`
    : "";
  return `Turn ${i + 1}: Φ ${fraction(turn.phi)} (${signed(turn.progress)})${received}`;
}

// The largest of what the turns of all shown groups received.
function widest(shown, value) {
  const given = shown.filter(({ episode }) => episode.group);
  return Math.max(
    1e-9,
    ...given.flatMap(({ episode }) => episode.turns.map((turn) => Math.abs(value(turn)))),
  );
}

function bar(value, scale, direction) {
  const size = (50 * Math.abs(value)) / scale;
  const [start, length] = direction === "vertical" ? ["top", "height"] : ["left", "width"];
  const from = value > 0 === (direction === "vertical") ? 50 - size : 50;
  return h("span", { class: `bar ${value < 0 ? "minus" : "plus"}`, style: `${start}: ${from}%; ${length}: ${size}%` });
}

// What the turn received: all of it as a bar around zero, and how much of it is its own.
function credit(side, turn) {
  const { group } = side.episode;
  if (!group) return null;
  const mine = side.ownScale > FINE ? h("small", {}, ` (turn-specific ${signed(turn.own, 3)})`) : null;
  const track = h("span.track", { "aria-hidden": "true" }, bar(turn.advantage, side.scale, "horizontal"));
  return h("span.credit", {}, track, h("span.number", {}, `advantage ${signed(turn.advantage)}`, mine));
}

// The partial score and its parts, with what the turn changed of them.
function parts(turn, before) {
  const old = before.parts || {};
  const found = Object.entries(PARTS).filter(([name]) => turn.parts && turn.parts[name] !== undefined);
  const chips = found.map(([name, title]) => chip(title, turn.parts[name], turn.parts[name] - (old[name] || 0)));
  return h("p.parts", {}, chip("Φ", turn.phi, turn.progress), chips);
}

function chip(title, value, change) {
  const moved = Math.abs(change) > 1e-9;
  return h(
    `span.chip${moved ? ".moved" : ""}`,
    {},
    `${title} ${fraction(value)}${moved ? ` (${signed(change)})` : ""}`,
  );
}
