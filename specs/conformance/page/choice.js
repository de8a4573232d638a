// -- Which rows are shown: pure functions of a row and of what is wanted. --------------------------
const inSection = (row, wanted) =>
  row.rfc === wanted || row.place === wanted || row.place.startsWith(`${wanted}.`);

// "5321", "5321-4", "4.1" (of RFC 5321); or the beginning of an id, while somebody types.
function sectionTest(rows, typed) {
  const text = typed.trim().replace(/^rfc\s*/i, "").replace(/[.\-]+$/, "");
  const wanted = /^[0-9A-Z]\w*\./.test(text) && !text.includes("-") ? `5321-${text}` : text;
  if (!wanted) return () => true;
  if (rows.some((row) => inSection(row, wanted))) return (row) => inSection(row, wanted);
  return (row) => row.id.startsWith(wanted);
}

// A server that could not be asked differs from nobody.
const told = (cell) => cell && !["not applicable", "unavailable", "error"].includes(cell.verdict);
const variety = (row, what) => new Set(row.cells.filter(told).map((cell) => cell[what])).size;
const DIFFER = {
  verdicts: (row) => variety(row, "verdict") > 1,
  answers: (row) => variety(row, "observed") > 1,
};

function textOf(row) {
  row.text ??= [
    row.id, row.requirement, row.sent, row.level, row.security, ...row.clauses, ...row.expected,
    ...row.cells.map((cell) => cell ? `${cell.observed} ${cell.saw}` : ""),
  ].join(" ").toLowerCase();
  return row.text;
}

function chooser(data, filter) {
  const wanted = Object.fromEntries(new URLSearchParams(filter));
  const words = (wanted.text || "").toLowerCase().split(/\s+/).filter(Boolean);
  const server = data.servers.findIndex((each) => each.name === wanted.server);
  const cellsOf = (row) => server < 0 ? row.cells : [row.cells[server]];
  const tests = [
    wanted.section && sectionTest(data.rows, wanted.section),
    wanted.level && ((row) => row.level === wanted.level),
    wanted.role && ((row) => row.role === wanted.role),
    wanted.security && ((row) => row.security),
    wanted.verdict && ((row) => cellsOf(row).some((cell) => cell && cell.verdict === wanted.verdict)),
    server >= 0 && ((row) => row.cells[server]),
    DIFFER[wanted.differ],
    words.length && ((row) => words.every((word) => textOf(row).includes(word))),
  ].filter(Boolean);
  return (row) => tests.every((test) => test(row));
}

