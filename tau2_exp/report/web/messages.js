// Messages, tool calls and changes of the world within a turn.

const LONG = 220; // letters of a tool's result that are shown before it is opened

function changes(found) {
  const entries = Object.entries(found || {});
  if (!entries.length) return null;
  const values = entries.map(([path, value]) =>
    h("li", {}, h("code", {}, path), " → ", h("code", {}, value === null ? "back to the initial value" : JSON.stringify(value))),
  );
  return h("div.changes", {}, h("p", {}, "Changes to the world"), h("ul", {}, values));
}

function message(said) {
  const by = said.role === "tool" ? said.requestor : said.role;
  const who = by === "user" ? "User" : "Agent";
  if (said.role === "tool") return result(said, who);
  return [
    said.content ? h(`div.said.${who.toLowerCase()}`, {}, h("span.who", {}, who), h("p", {}, said.content)) : null,
    (said.tool_calls || []).map((call) =>
      h(
        `div.call.${who.toLowerCase()}`,
        {},
        h("span.who", {}, `${who} calls`),
        h("code", {}, h("b", {}, call.name), `(${callArguments(call)})`),
      ),
    ),
  ];
}

function callArguments(call) {
  return Object.entries(call.arguments)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .join(", ");
}

function result(said, who) {
  const text = said.content || "";
  const kind = `result.${who.toLowerCase()}${said.error ? ".failed" : ""}`;
  const title = h("span.who", {}, said.error ? "Error" : "Result");
  if (text.length <= LONG) return h(`div.${kind}`, {}, title, h("pre", {}, text));
  return h(
    `details.${kind}`,
    {},
    h("summary", {}, title, h("code", {}, `${text.slice(0, LONG / 2)}…`)),
    h("pre", {}, pretty(text)),
  );
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
