// -- What is opened: a case with all servers, with one of them its transcript, or a server. --------
const LINES = "Seconds since the case began; C: a client, S: a server; octets, with what can't be printed escaped.";

class Opened {
  constructor(data, matrix, place) {
    Object.assign(this, { data, matrix, place, row: null, server: -1 });
  }

  show(...shown) {
    this.place.replaceChildren(...shown);
    if (!this.place.open) this.place.showModal();
    this.place.scrollTop = 0;
  }

  top(title, ...more) {
    const close = within(make("form", "", "", { method: "dialog" }), make("button", "close", "", { autofocus: "" }));
    return [within(make("nav"), ...more, close), make("h2", title, "", { id: "opened-title" })];
  }

  openServer(name) {
    const server = this.data.servers.find((each) => each.name === name);
    if (!server) return this.close();
    this.row = null;
    const number = this.data.servers.indexOf(server), counts = make("span", "", "counts");
    Object.entries(this.data.verdicts).forEach(([verdict, { sign }]) => {
      const count = this.data.rows.filter((row) => row.cells[number]?.verdict === verdict).length;
      if (count) counts.append(make("span", `${sign} ${count} ${verdict}`, `chip ${classOf(verdict)}`));
    });
    const bad = this.data.rows.filter((row) => row.cells[number] && misused(row, row.cells[number])).length;
    if (bad) counts.append(make("span", `${bad} of security`, "chip fail misused"));
    const offered = Object.entries(server.offered).map(([door, words]) => [`offered (${door})`, words.join(" \u00b7 ")]);
    this.show(...this.top(name),
      terms(["version", server.version], ["greeting", server.greeting], ["counts", counts], ...offered,
        ["measured", server.began && `${server.began}, seed ${server.seed}`]),
      ...(server.configuration ? [make("h3", "configuration"), make("pre", server.configuration, "configuration")] : []));
  }

  openCase(row, name) {
    const server = this.data.servers.findIndex((each) => each.name === name);
    Object.assign(this, { row, server });
    const cell = row.cells[server], shown = this.matrix.shown, at = shown.indexOf(row);
    const beside = (step, text, key) => {
      const other = shown[at + step];
      return at < 0 || !other ? "" : make("a", text, "", { href: linkTo(other.id, this.nameOf(server)), "data-key": key, title: `key ${key}` });
    };
    this.show(
      ...this.top(row.requirement, beside(-1, "\u2039 previous", "p"), beside(1, "next \u203a", "n"),
        make("span", at < 0 ? "" : `${at + 1} of ${shown.length} shown`, "quiet"),
        make("span", "keys: \u2190 \u2192 server, p n case", "quiet keys")),
      this.facts(row), this.strip(row, server), ...(cell ? this.got(row, cell, server) : []));
    row.element.scrollIntoView({ block: "nearest" });
  }

  nameOf(server) {
    return server < 0 ? "" : this.data.servers[server].name;
  }

  facts(row) {
    const standard = /^\d+$/.test(row.rfc) ? make("a", `RFC ${row.rfc}, ${row.section}`, "", {
      href: `https://www.rfc-editor.org/rfc/rfc${row.rfc}#${/^\d/.test(row.section) ? "section" : "appendix"}-${row.section}`,
      rel: "noreferrer",
    }) : make("span", `RFC ${row.rfc}, ${row.section}`);
    return terms(
      ["case", within(make("span"), make("code", row.id), ` \u00b7 ${row.level} \u00b7 ${row.role} \u00b7 `, standard,
        row.clauses.length ? ` \u00b7 clauses ${row.clauses.join(" ")}` : "")],
      ["sent", make("code", row.sent)], ["expected any of", row.expected.join(", ")],
      ["what may be misused", row.security]);
  }

  // Every server's answer; the chosen one is marked.
  strip(row, chosen) {
    const place = make("div", "", "strip", { role: "group", "aria-label": "servers" });
    row.cells.forEach((cell, server) => {
      const name = this.nameOf(server);
      if (!cell) return;
      const link = this.matrix.cell(row, cell, server);
      if (server === chosen) link.setAttribute("aria-current", "true");
      link.prepend(make("span", name, "name"));
      place.append(link);
    });
    return place;
  }

  got(row, cell, server) {
    const chip = make("span", `${this.data.verdicts[cell.verdict].sign} ${cell.verdict}`, `chip ${classOf(cell.verdict)}`);
    const line = within(make("p", "", "got"), chip, misused(row, cell) ? make("span", "security", "chip fail misused") : "",
      ` ${this.nameOf(server)} `, make("code", `${cell.observed} ${seen(cell)}`.trim()));
    const place = make("div", "", "transcript");
    saidIn(this.data, row, server).then((lines) => {
      if (lines.length) place.append(transcript(lines), make("p", LINES, "quiet"));
      else place.append(make("p", "Nothing was said.", "quiet"));
      place.dataset.said = "yes";
    });
    return [line, place];
  }

  // The server beside, which has this case.
  beside(step) {
    if (!this.row) return "";
    const has = this.row.cells.map((cell, index) => cell ? index : -1).filter((index) => index >= 0);
    const at = has.indexOf(this.server), next = at < 0 ? has.at(step > 0 ? 0 : -1) : has[at + step];
    return next === undefined ? "" : linkTo(this.row.id, this.nameOf(next));
  }

  close() {
    if (this.place.open) this.place.close();
  }
}

