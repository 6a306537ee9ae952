"use strict";
// Sorting and downloads. The exact numbers are the CSV in the page; nothing is fetched, and no text is parsed as HTML.
(() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const csv = document.getElementById("rows").textContent;
  const [header, ...rows] = csv.trimEnd().split("\n").map((line) => line.split(","));
  const column = new Map(header.map((name, at) => [name, at]));

  const commas = (text) => text.replace(/^(-?\d+)/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","));
  const formatted = (text, kind) => {
    if (text === "" || kind === "text") return text;
    if (kind === "count") return commas(text);
    const value = Number(text);
    if (kind === "share") return `${(100 * value).toFixed(1)}%`;
    return commas(value.toFixed(Math.abs(value) >= 10000 ? 0 : 2));
  };

  const make = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  // Sort lines by a column: empty cells last in both directions; ties keep their order.
  const ordered = (lines, at, kind, direction) => {
    const keys = lines.map((line) => {
      const text = line.values[at] ?? "";
      return kind === "text" || text === "" ? text : Number(text);
    });
    const order = lines.map((_, place) => place);
    order.sort((one, other) => {
      const a = keys[one], b = keys[other];
      if (a === "" || b === "") return (a === "") - (b === "") || one - other;
      return (a === b ? 0 : (a > b) === (direction === "ascending") ? 1 : -1) || one - other;
    });
    return order.map((place) => lines[place]);
  };

  const save = (name, text) => {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  // A sortable table; `draw` makes the row of a line. A line has one text value per column.
  const sortable = (id, draw) => {
    const table = document.getElementById(id);
    const status = document.getElementById(`${id}-status`);
    const more = document.getElementById(`${id}-more`);
    const state = { lines: [], heads: [], shown: Infinity, at: -1, direction: "" };

    const show = () => {
      const sorted = state.at < 0 ? state.lines : ordered(state.lines, state.at, state.heads[state.at].kind, state.direction);
      const body = make("tbody");
      for (const line of sorted.slice(0, state.shown)) body.append(draw(line));
      table.tBodies[0].replaceWith(body);
      table.querySelectorAll("thead th").forEach((head, at) => {
        if (at === state.at) head.setAttribute("aria-sort", state.direction);
        else head.removeAttribute("aria-sort");
      });
      say();
    };
    const say = () => {
      const count = state.lines.length, shown = Math.min(state.shown, count);
      const sorted = state.at < 0 ? "" : ` Sorted by ${state.heads[state.at].name}, ${state.direction}.`;
      status.textContent = `${commas(String(shown))} of ${commas(String(count))} rows shown.${sorted}`;
      if (more) more.hidden = shown >= count;
    };
    const buttons = () => {
      table.querySelectorAll("thead th").forEach((head, at) => {
        const button = make("button", head.textContent);
        button.type = "button";
        if (state.heads[at].name !== head.textContent) button.setAttribute("aria-label", `sort by ${state.heads[at].name}`);
        button.addEventListener("click", () => {
          state.direction = state.at === at && state.direction === "ascending" ? "descending" : "ascending";
          state.at = at;
          show();
        });
        head.replaceChildren(button);
      });
    };
    if (more) more.addEventListener("click", () => { state.shown += 1000; show(); });
    return { state, show, say, buttons };
  };

  // The cohort table, row by row.
  const long = sortable("cohorts", (line) => {
    const row = make("tr");
    line.values.forEach((text, at) => {
      const cell = make(at ? "td" : "th", formatted(text, about.kinds[header[at]]));
      if (!at) cell.scope = "row";
      row.append(cell);
    });
    return row;
  });
  long.state.lines = rows.filter((row) => row.length === header.length).map((values) => ({ values }));
  long.state.heads = header.map((name) => ({ name: name, kind: about.kinds[name] }));
  long.state.shown = about.first;
  long.buttons();
  long.say();

  // The triangle of one field, built from the same rows.
  const choice = document.getElementById("field");
  const pivot = (field) => {
    const lines = new Map();
    for (const { values } of long.state.lines) {
      const cohort = values[column.get("cohort")];
      if (!lines.has(cohort)) lines.set(cohort, { values: [cohort, values[column.get("cohort_size")]] });
      lines.get(cohort).values[2 + Number(values[column.get("period")])] = values[column.get(field)];
    }
    return [...lines.values()];
  };
  const edges = (field) => {
    const numbers = (later) => long.state.lines
      .filter(({ values }) => (!later || about.cumulative.includes(field) || values[column.get("period")] !== "0") && values[column.get(field)] !== "")
      .map(({ values }) => Number(values[column.get(field)]));
    const all = numbers(true).length ? numbers(true) : numbers(false);
    return [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), -Infinity)];
  };
  let low, high;
  const shade = (text) => {
    const share = high > low ? (Number(text) - low) / (high - low) : 0;
    return `v${Math.min(Math.max(Math.trunc(share * about.steps), 0), about.steps - 1) + 1}`;
  };
  const wide = sortable("triangle", (line) => {
    const row = make("tr"), kind = about.kinds[choice.value];
    const open = about.unfinished[line.values[0]] ?? Infinity;
    line.values.forEach((text, at) => {
      if (at === 0) row.append(Object.assign(make("th", text), { scope: "row" }));
      else if (at === 1) row.append(make("td", formatted(text, "count")));
      else row.append(make("td", formatted(text, kind), [text === "" ? "" : shade(text), at - 2 >= open ? "open" : ""].join(" ").trim()));
    });
    return row;
  });
  const ages = Array.from(document.querySelectorAll("#triangle thead th")).length - 2;
  const choose = () => {
    const kind = about.kinds[choice.value];
    [low, high] = edges(choice.value);
    wide.state.lines = pivot(choice.value);
    wide.state.heads = [
      { name: "cohort", kind: "text" }, { name: "cohort size", kind: "count" },
      ...Array.from({ length: ages }, (_, age) => ({ name: `age ${age}`, kind })),
    ];
    document.getElementById("triangle-name").textContent = choice.selectedOptions[0].textContent;
  };
  choose();
  wide.buttons();
  wide.say();
  choice.addEventListener("change", () => { choose(); wide.show(); });

  document.getElementById("save-cohorts").addEventListener("click", () => save("cohorts.csv", csv));
  document.getElementById("save-triangle").addEventListener("click", () => {
    const names = ["cohort", ...Array.from({ length: ages }, (_, age) => String(age))];
    const lines = pivot(choice.value).map(({ values }) => [values[0], ...names.slice(1).map((_, age) => values[2 + age] ?? "")]);
    save(`triangle_${choice.value}.csv`, [names, ...lines].map((line) => `${line.join(",")}\n`).join(""));
  });
  document.querySelectorAll(".tools").forEach((tools) => { tools.hidden = false; });
})();
