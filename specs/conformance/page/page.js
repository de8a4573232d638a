
"use strict";
const $ = (query, where = document) => where.querySelector(query);
// Everything is set as text: nothing that a server said is ever markup.
const make = (tag, text = "", classes = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  if (classes) made.className = classes;
  return made;
};

function start(data) {
  const kinds = Object.keys(data.verdicts);
  const classOf = (verdict) => verdict.replaceAll(" ", "-");
  const filter = $("#filter");

  function sums() {
    const head = make("tr");
    head.append(make("th", "server"), ...kinds.map((each) => make("th", each)));
    $("#sums thead").append(head);
    data.servers.forEach((server) => {
      const row = make("tr");
      row.append(make("th", server.name), ...kinds.map((each) => make("td", server.counts[each] || "")));
      $("#sums tbody").append(row);
    });
    const names = data.servers.map((each) => each.name).join(", ");
    $("#said").textContent = `${data.rows.length} cases of the standards, put to ${names}.`;
  }

  function choices(name, values) {
    [...new Set(values)].forEach((each) => {
      const option = make("option", each);
      option.value = each;
      filter.elements[name].append(option);
    });
  }

  function head() {
    const row = make("tr");
    row.append(make("th", "case", "case"));
    data.servers.forEach((server, number) => {
      const button = make("button", server.name);
      button.type = "button";
      button.addEventListener("click", () => openServer(number));
      const cell = make("th");
      cell.append(button);
      row.append(cell);
    });
    $("#matrix thead").append(row);
  }

  // A server that could not be asked differs from nobody.
  const told = (cell) => cell && !["not applicable", "unavailable", "error"].includes(cell.verdict);
  const differs = (row) => {
    const found = row.cells.filter(told).map((cell) => cell.verdict === "info" ? `info ${cell.observed}` : cell.verdict);
    return new Set(found).size > 1;
  };
  const texts = data.rows.map((row) => [
    row.id, row.requirement, row.sent, row.level, row.security, row.clauses.join(" "),
    ...row.cells.map((cell) => cell ? `${cell.observed} ${cell.saw}` : ""),
  ].join(" ").toLowerCase());

  const fits = (row, number, wanted) =>
    (!wanted.rfc || row.rfc === wanted.rfc) &&
    (!wanted.section || row.section === wanted.section || row.section.startsWith(`${wanted.section}.`)) &&
    (!wanted.role || row.role === wanted.role) &&
    (!wanted.verdict || row.cells.some((cell) => cell && cell.verdict === wanted.verdict)) &&
    (!wanted.differ || differs(row)) &&
    (!wanted.security || row.security) &&
    wanted.words.every((word) => texts[number].includes(word));

  function wanted() {
    const field = filter.elements;
    return {
      rfc: field.rfc.value, section: field.section.value, role: field.role.value,
      verdict: field.verdict.value, differ: field.differ.checked, security: field.security.checked,
      words: field.text.value.toLowerCase().split(/\s+/).filter(Boolean),
    };
  }

  const drawn = data.rows.map((row, number) => {
    const line = make("tr");
    line.dataset.case = row.id;
    const what = make("td", "", "what");
    what.append(make("div", row.requirement), make("code", row.id), " ", make("span", row.level, "level"));
    if (row.security) what.append(" ", make("span", "security", "tag"));
    line.append(what);
    row.cells.forEach((cell, server) => {
      const place = make("td");
      if (cell) {
        const text = told(cell) ? cell.observed : cell.saw;
        const button = make("button", `${data.verdicts[cell.verdict]} ${text}`, classOf(cell.verdict));
        button.type = "button";
        button.title = cell.verdict;
        button.setAttribute("aria-label", `${row.id}, ${data.servers[server].name}: ${cell.verdict}, ${text}`);
        button.addEventListener("click", () => { location.hash = `${row.id}/${server}`; });
        place.append(button);
      }
      line.append(place);
    });
    return line;
  });

  function show() {
    const chosen = wanted();
    const body = $("#matrix tbody");
    const rows = [];
    let before = "", count = 0;
    data.rows.forEach((row, number) => {
      if (!fits(row, number, chosen)) return;
      count += 1;
      const title = `RFC ${row.rfc}, section ${row.section}`;
      if (title !== before) {
        const line = make("tr", "", "head");
        const cell = make("td", title);
        cell.colSpan = data.servers.length + 1;
        line.append(cell);
        rows.push(line);
        before = title;
      }
      rows.push(drawn[number]);
    });
    body.replaceChildren(...rows);
    $("#count").textContent = `${count} of ${data.rows.length} cases`;
  }

  function terms(list, pairs) {
    pairs.filter(([, text]) => text).forEach(([name, text]) => list.append(make("dt", name), make("dd", text)));
  }

  function openCell(row, server) {
    const cell = row.cells[server];
    const place = $("#opened div");
    const list = make("dl");
    terms(list, [
      ["server", data.servers[server].name], ["requirement", `${row.requirement} (${row.level})`],
      ["sent", row.sent], ["expected any of", row.expected.join(", ")],
      ["got", `${cell.observed} ${cell.saw}`.trim()], ["verdict", cell.verdict],
      ["what may be misused", row.security], ["clauses", row.clauses.join(" ")],
    ]);
    const said = make("pre");
    cell.lines.forEach(([who, connection, text]) => {
      const mark = who === "-" ? "# " : `${who}: `;
      said.append(make("span", `${connection > 1 ? `[${connection}] ` : ""}${mark}${text}\n`, who === "-" ? "note" : who));
    });
    place.replaceChildren(make("h2", row.id), list, said);
    $("#opened").showModal();
  }

  function openServer(number) {
    const server = data.servers[number];
    const list = make("dl");
    terms(list, [
      ["version", server.version], ["greeting", server.greeting],
      ...Object.entries(server.offered).map(([door, words]) => [`offered (${door})`, words]),
    ]);
    const shown = [make("h2", server.name), list];
    if (server.configuration) shown.push(make("h2", "configuration"), make("pre", server.configuration));
    $("#opened div").replaceChildren(...shown);
    $("#opened").showModal();
  }

  function follow() {
    const [id, server] = decodeURIComponent(location.hash.slice(1)).split("/");
    const row = data.rows.find((each) => each.id === id);
    if (row && row.cells[Number(server)]) openCell(row, Number(server));
  }

  sums();
  choices("rfc", data.rows.map((row) => row.rfc));
  choices("section", data.rows.map((row) => row.section));
  choices("role", data.rows.map((row) => row.role));
  choices("verdict", kinds);
  head();
  show();
  filter.addEventListener("input", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("reset", () => setTimeout(show));
  $("#opened").addEventListener("close", () => { history.replaceState(null, "", location.pathname + location.search); });
  addEventListener("hashchange", follow);
  follow();
  document.body.dataset.drawn = "yes";
}

// The data is packed: octets of many sessions, which are much alike.
async function unpacked() {
  const octets = Uint8Array.from(atob($("#data").textContent), (each) => each.charCodeAt(0));
  const stream = new Blob([octets]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}
unpacked().then(start).catch((error) => {
  $("#said").textContent = `This page can't be shown here: ${error}`;
  throw error;
});
