// Small tools. Text reaches the page as text nodes only, so nothing that a model wrote is ever read as HTML.

function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function signed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? "−" : "+") + text;
}

function fraction(value) {
  return value.toFixed(2);
}

function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

function verdictOf(row) {
  if (row.outcome === null) return "not scored";
  return row.outcome >= 1 ? "solved" : "failed";
}

const MARKS = { solved: "✓", failed: "✗", "not scored": "–" };

// Whose episode it is, and which of theirs.
function originOf(row) {
  return [row.run.stage, row.run.arm, row.file.split + (row.file.greedy ? " greedy" : "")].filter(Boolean).join(" · ");
}

function placeOf(row) {
  const words = [];
  if (row.step !== null) words.push(`step ${row.step}`);
  if (!row.file.greedy) words.push(`sample ${row.sample + 1}`);
  return words.join(" · ");
}
