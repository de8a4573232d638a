// -- The matrix and the counts above it. -----------------------------------------------------------
const misused = (row, cell) => row.security && cell.verdict === "fail";
// What was seen is mostly a reply, which begins with what was judged.
const seen = (cell) => cell.saw.startsWith(cell.observed) ? cell.saw.slice(cell.observed.length).trim() : cell.saw;

// Rows are filled when they come near the window; those that are not, some at a time when there is
// nothing else to do, so that the browser's own search finds them.
const FIRST_ROWS = 20, ROWS_AT_A_TIME = 40, PAUSE_MS = 30, NEAR = "1200px 0px";

class Matrix {
  constructor(data, place) {
    this.data = data;
    this.place = place;
    place.style.setProperty("--servers", data.servers.length);
    place.append(this.head());
    this.groups = [];
    this.byElement = new Map();
    const near = new IntersectionObserver(
      (entries) => entries.filter((each) => each.isIntersecting).forEach((each) => {
        near.unobserve(each.target);
        this.fill(this.byElement.get(each.target));
      }), { rootMargin: NEAR });
    data.rows.forEach((row) => {
      const title = `${row.rfc}-${row.section}`;
      if (this.groups.at(-1)?.title !== title) {
        const element = this.heading(row);
        this.groups.push({ title, element, rows: [] });
        place.append(element);
      }
      row.element = make("div", "", "row", { role: "row", "data-case": row.id });
      this.byElement.set(row.element, row);
      this.groups.at(-1).rows.push(row);
      place.append(row.element);
      near.observe(row.element);
    });
    place.addEventListener("keydown", (event) => this.move(event));
    place.addEventListener("focusin", (event) => this.rest(event.target));
    this.fillOthers(0);
  }

  fillOthers(from) {
    const to = from + ROWS_AT_A_TIME;
    this.data.rows.slice(from, to).forEach((row) => this.fill(row));
    if (to < this.data.rows.length) setTimeout(() => this.fillOthers(to), PAUSE_MS);
  }

  head() {
    const head = make("div", "", "head", { role: "row" });
    head.append(make("span", "case", "", { role: "columnheader" }));
    this.data.servers.forEach(({ name }) => {
      head.append(within(make("span", "", "", { role: "columnheader" }), make("a", name, "", { href: linkTo("server", name) })));
    });
    return head;
  }

  // A section, and those it is within: each is a link to all cases of it.
  heading(row) {
    const line = make("div", "", "section", { role: "row" });
    const cell = make("span", "", "", { role: "rowheader" }), parts = row.section.split(".");
    cell.append(make("a", `RFC ${row.rfc}`, "", { href: `#?section=${row.rfc}` }));
    parts.forEach((_, index) => {
      const section = parts.slice(0, index + 1).join(".");
      cell.append(" \u203a ", make("a", section, "", { href: `#?section=${row.rfc}-${section}` }));
    });
    return within(line, cell);
  }

  fill(row) {
    if (row.element.firstChild) return;
    const what = make("div", "", "what", { role: "rowheader" });
    what.append(
      make("a", row.requirement, "requirement", { href: linkTo(row.id), tabindex: "-1" }),
      within(make("div", "", "facts"), make("span", "sent"), make("code", row.sent)),
      within(make("div", "", "facts"), make("span", "expected"), make("span", row.expected.join(", "))),
      within(make("div", "", "id"), make("b", row.level), row.security ? make("b", "security", "tag") : "",
        make("span", row.id), make("span", row.clauses.length ? `clauses ${row.clauses.join(" ")}` : "")),
    );
    row.element.append(what, ...row.cells.map((cell, server) =>
      within(make("span", "", "place", { role: "gridcell" }), cell ? this.cell(row, cell, server, "-1") : "")));
  }

  cell(row, cell, server, tabindex = "0") {
    const { name } = this.data.servers[server], bad = misused(row, cell);
    const { sign } = this.data.verdicts[cell.verdict];
    const said = `${name}: ${cell.verdict}${bad ? ", security" : ""}: ${cell.observed} ${seen(cell)}`.trim();
    const link = make("a", "", `cell ${classOf(cell.verdict)}${bad ? " misused" : ""}`, {
      href: linkTo(row.id, name), tabindex, "aria-label": said, title: said,
    });
    link.append(make("b", `${sign} ${cell.observed}`), make("small", seen(cell)));
    return link;
  }

  // Shows the rows that fit, and says which.
  show(fits) {
    this.shown = [];
    this.groups.forEach((group) => {
      let count = 0;
      group.rows.forEach((row) => {
        const good = fits(row);
        if (row.element.hidden === good) row.element.hidden = !good;
        if (good) { count += 1; this.shown.push(row); }
      });
      group.element.hidden = !count;
    });
    this.shown.slice(0, FIRST_ROWS).forEach((row) => this.fill(row));
    if (this.shown.length && !this.resting?.checkVisibility()) this.rest(this.linkOf(this.shown[0], 0));
    return this.shown;
  }

  linkOf(row, server) {
    this.fill(row);
    const place = row.element.children[server + 1];
    return place && $("a", place);
  }

  // One cell can be reached by Tab; the arrows lead from it to the others.
  rest(link) {
    if (!link?.matches(".cell, .requirement")) return;
    if (this.resting) this.resting.tabIndex = -1;
    this.resting = link;
    link.tabIndex = 0;
  }

  move(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const line = event.target.closest(".row");
    if (!step || !line || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const column = [...line.children].indexOf(event.target.closest(".row > *"));
    const there = this.shown[this.shown.indexOf(this.byElement.get(line)) + step[0]];
    const link = there && column + step[1] >= 0 && this.linkOf(there, column + step[1] - 1);
    if (!link) return;
    link.focus({ preventScroll: true });
    link.scrollIntoView({ block: "nearest" });
  }
}

// Counts of what is shown, by server; each leads to rows of its kind.
function sums(data, shown, filter) {
  const kinds = Object.keys(data.verdicts);
  const link = (count, sign, more, classes) => {
    const cell = make("td", "", classes, { "data-sign": sign });
    return count ? within(cell, make("a", count, "", { href: withFilter(`#?${new URLSearchParams(more)}`, filter) })) : cell;
  };
  const rows = data.servers.map(({ name }, server) => {
    const counts = Object.fromEntries(kinds.map((each) => [each, 0]));
    let bad = 0;
    shown.forEach((row) => {
      const cell = row.cells[server];
      if (!cell) return;
      counts[cell.verdict] += 1;
      if (misused(row, cell)) bad += 1;
    });
    const bar = make("div", "", "bar", { "aria-hidden": "true" });
    kinds.forEach((each) => {
      const part = make("i", "", classOf(each));
      part.style.flexGrow = counts[each];
      if (counts[each]) bar.append(part);
    });
    return within(make("tr"),
      within(make("th", "", "", { scope: "row" }), make("a", name, "", { href: linkTo("server", name) })),
      within(make("td", "", "share"), bar),
      ...kinds.map((each) => link(counts[each], data.verdicts[each].sign, { verdict: each, server: name }, classOf(each))),
      link(bad, "security", { verdict: "fail", server: name, security: "yes" }, "misused"));
  });
  $("#sums tbody").replaceChildren(...rows);
}

