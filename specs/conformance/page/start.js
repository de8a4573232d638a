// -- The page: the address says what is shown; whatever is done changes the address. ---------------
const TYPING_MS = 120;

function start(data) {
  const form = $("#filter");
  data.rows.forEach((row, number) => Object.assign(row, { number, place: `${row.rfc}-${row.section}` }));
  const byId = new Map(data.rows.map((row) => [row.id, row]));
  about(data);
  choices(data, form);
  const matrix = new Matrix(data, $("#matrix")), opened = new Opened(data, matrix, $("#opened"));
  let filter = null;

  const inForm = () => new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();

  function intoForm(wanted) {
    const query = new URLSearchParams(wanted);
    [...form.elements].filter((each) => each.name).forEach((field) => {
      const value = query.get(field.name) || "";
      if (field.type === "checkbox") field.checked = Boolean(value);
      else if (field.value !== value) field.value = value;
    });
  }

  function apply(wanted) {
    filter = wanted;
    const shown = matrix.show(chooser(data, filter));
    sums(data, shown, filter);
    $("#count").textContent = `${shown.length} of ${data.rows.length} cases`;
    $("#none").hidden = shown.length > 0;
  }

  function follow() {
    const { head, server, filter: wanted } = linked();
    if (wanted !== filter) { intoForm(wanted); apply(wanted); }
    if (head === "server") opened.openServer(server);
    else if (byId.has(head)) opened.openCase(byId.get(head), server);
    else opened.close();
  }

  function filtered() {
    clearTimeout(filtered.later);
    const wanted = inForm();
    if (wanted === filter) return;
    apply(wanted);
    history.replaceState(null, "", wanted ? `#?${wanted}` : location.pathname + location.search);
  }

  form.addEventListener("input", (event) => {
    clearTimeout(filtered.later);
    filtered.later = setTimeout(filtered, event.target.type === "search" ? TYPING_MS : 0);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); filtered(); });
  form.addEventListener("reset", () => setTimeout(filtered));
  // A link says where it leads; here the filter goes along.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    location.hash = withFilter(link.getAttribute("href"), filter);
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (opened.place.open) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const href = step ? opened.beside(step) : $(`[data-key="${CSS.escape(event.key)}"]`, opened.place)?.getAttribute("href");
      if (href) { event.preventDefault(); history.replaceState(null, "", withFilter(href, filter)); follow(); }
    } else if (event.key === "/" && !event.target.matches("input, select")) {
      event.preventDefault();
      form.elements.text.focus();
      form.elements.text.select();
    }
  });
  opened.place.addEventListener("click", (event) => { if (event.target === opened.place) opened.close(); });
  opened.place.addEventListener("close", () => {
    history.replaceState(null, "", filter ? `#?${filter}` : location.pathname + location.search);
    if (opened.row && !opened.row.element.hidden) matrix.linkOf(opened.row, opened.server)?.focus({ preventScroll: true });
  });
  new ResizeObserver(() => document.body.style.setProperty("--bar", `${form.offsetHeight}px`)).observe(form);
  addEventListener("hashchange", follow);
  follow();
  document.body.dataset.drawn = "yes";
}

function about(data) {
  const standards = new Set(data.rows.map((row) => row.rfc)).size, many = data.servers.length;
  $("#about").textContent = `${data.rows.length} cases of ${standards} standards, put to ${many === 1 ? data.servers[0].name : `${many} servers`}. `
    + "A cell opens what was said, octet for octet. A server's name opens its configuration: a failure is one of that configuration.";
  const head = ["server", "", ...Object.keys(data.verdicts), "security"];
  $("#sums thead").append(within(make("tr"), ...head.map((each) => make("th", each, "", { scope: "col" }))));
  const legend = (text, classes, means) => $("#legend dl").append(
    within(make("div"), within(make("dt"), make("span", text, `chip ${classes}`)), make("dd", means)));
  Object.entries(data.verdicts).forEach(([verdict, { sign, means }]) => legend(`${sign} ${verdict}`, classOf(verdict), means));
  legend("security", "fail misused", "it failed, and that can be misused");
  $("#legend").open = matchMedia("(min-width: 761px)").matches;
}

function choices(data, form) {
  const choose = (field, values) => [...new Set(values)].forEach((each) => form.elements[field].append(make("option", each, "", { value: each })));
  choose("level", data.rows.map((row) => row.level));
  choose("role", data.rows.map((row) => row.role));
  choose("verdict", Object.keys(data.verdicts));
  if (data.servers.length === 1) ["server", "differ"].forEach((each) => { form.elements[each].closest("label").hidden = true; });
  choose("server", data.servers.map((each) => each.name));
  // Every section, and those it is within.
  const sections = new Map(), count = (name) => sections.set(name, (sections.get(name) || 0) + 1);
  data.rows.forEach((row) => {
    const parts = row.section.split(".");
    count(row.rfc);
    parts.forEach((_, index) => count(`${row.rfc}-${parts.slice(0, index + 1).join(".")}`));
  });
  sections.forEach((number, name) => $("#sections").append(make("option", `${number} cases`, "", { value: name })));
}

unpacked($("#data").textContent).then(start).catch((error) => {
  $("#about").textContent = `This page can't be shown here: ${error}`;
  throw error;
});
