"use strict";
// Draws the charts of a latbench report from the JSON in #data with Observable Plot. One function a kind;
// colours are variables of the style sheet, so that light and dark need no drawing anew.
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent);
  const colour = (series) => `var(--s${series ?? 0})`;
  const narrow = (width) => width < 560;

  const base = (chart, width) => ({
    className: "plot", width, ariaLabel: chart.label, style: { overflow: "visible" },
  });

  // Marks of each series by itself: a variable of CSS is no value of a colour scale.
  const bySeries = (rows, draw) =>
    d3.groups(rows, (row) => row.s ?? 0).flatMap(([s, members]) => draw(members, colour(s)));

  const tip = (rows, x, y) =>
    Plot.tip(rows, Plot.pointer({ x, y, title: "t", fontSize: 12, maxRadius: 60, lineWidth: 30 }));

  function shade(chart) {
    const values = chart.cells.map((cell) => cell.v).filter((v) => v !== null);
    if (chart.diverging) {
      const most = d3.max(values, Math.abs) || 1;
      const scale = d3.scaleSequential([most, -most], d3.interpolateRdBu);
      return (v) => scale(v);
    }
    const scale = d3.scaleSequentialLog([d3.min(values), d3.max(values)], d3.interpolateYlGnBu);
    return (v) => scale(v);
  }

  const readable = (fill) => (d3.lab(fill).l > 62 ? "#111" : "#fff");

  function heatmap(chart, width) {
    const fill = shade(chart);
    const cells = chart.cells.map((cell) => {
      const background = cell.v === null ? "none" : fill(cell.v);
      const text = cell.v === null ? "currentColor" : readable(background);
      return { ...cell, background, text };
    });
    const small = narrow(width);
    return Plot.plot({
      ...base(chart, width),
      marginLeft: small ? 78 : 120, marginTop: 34, marginRight: 4,
      height: 60 + chart.y.length * (small ? 24 : 26),
      x: { domain: chart.x, axis: "top", padding: 0.04, label: null, tickSize: 0, tickRotate: small ? -40 : 0 },
      y: { domain: chart.y, padding: 0.06, label: null, tickSize: 0,
           tickFormat: (d) => (small ? d.split(" ").slice(0, 2).join(" ") : d) },
      color: { type: "identity" },
      marks: [
        Plot.cell(cells, { x: "x", y: "y", fill: "background", stroke: "var(--line)", inset: 0.5 }),
        Plot.text(cells, { x: "x", y: "y", text: "l", fill: "text", fontSize: small ? 8 : 11 }),
        tip(cells, "x", "y"),
      ],
    });
  }

  function scatter(chart, width) {
    const lines = chart.lines ?? [];
    return Plot.plot({
      ...base(chart, width),
      height: Math.min(420, Math.max(280, width * 0.6)), marginLeft: 56, marginBottom: 42,
      grid: true,
      x: { type: chart.logx ? "log" : "linear", label: chart.xlabel, nice: true,
           ticks: narrow(width) ? 4 : 8, tickFormat: chart.logx ? "~s" : undefined },
      y: { type: chart.logy ? "log" : "linear", label: chart.ylabel, nice: true,
           ticks: 6, tickFormat: chart.logy ? "~g" : undefined },
      marks: [
        ...lines.map((line) => Plot.line(line.points, {
          x: "0", y: "1", stroke: "currentColor", strokeDasharray: "5 4", strokeOpacity: 0.7,
          curve: line.step ? "step-after" : "linear",
        })),
        ...bySeries(chart.points, (rows, stroke) => [
          Plot.ruleX(rows.filter((row) => row.lo !== undefined),
            { x: "x", y1: "lo", y2: "hi", stroke, strokeOpacity: 0.6 }),
          Plot.dot(rows, { x: "x", y: "y", r: 3.2, stroke, fill: stroke, fillOpacity: 0.45 }),
        ]),
        Plot.text(chart.points.filter((row) => row.label !== undefined),
          { x: "x", y: "y", text: "label", dy: -9, fill: "currentColor" }),
        tip(chart.points, "x", "y"),
      ],
    });
  }

  function forest(chart, width) {
    const small = narrow(width);
    return Plot.plot({
      ...base(chart, width),
      marginLeft: small ? 130 : 250, marginTop: 30, height: 60 + chart.rows.length * 17,
      x: { label: chart.xlabel, grid: true, axis: "top", ticks: small ? 4 : 8 },
      y: { domain: chart.rows.map((row) => row.n), label: null, tickSize: 0,
           tickFormat: (d) => (small && d.length > 22 ? `${d.slice(0, 21)}…` : d) },
      marks: [
        Plot.ruleX([chart.at], { stroke: "currentColor", strokeOpacity: 0.6 }),
        ...bySeries(chart.rows, (rows, stroke) => [
          Plot.ruleY(rows, { y: "n", x1: "lo", x2: "hi", stroke, strokeWidth: 1.6 }),
          Plot.dot(rows, { y: "n", x: "v", fill: stroke, r: 3.5 }),
        ]),
        Plot.dot(chart.rows.filter((row) => row.m !== undefined),
          { y: "n", x: "m", symbol: "times", stroke: "currentColor", r: 4 }),
        tip(chart.rows, "v", "n"),
      ],
    });
  }

  function time(chart, width) {
    const [low, high] = chart.range ?? d3.extent(chart.points, (row) => row.y);
    return Plot.plot({
      ...base(chart, width),
      height: 260, marginLeft: 56, marginBottom: 40, grid: true, inset: 6, clip: chart.cut ?? false,
      x: { label: chart.xlabel, ticks: narrow(width) ? 4 : 8 },
      y: { label: chart.ylabel, nice: true, domain: [low, high] },
      marks: [
        Plot.rect(chart.spans ?? [], { x1: "a", x2: "b", y1: low, y2: high,
          fill: "var(--s1)", fillOpacity: 0.22 }),
        ...bySeries(chart.points.filter((row) => row.faint), (rows, fill) =>
          Plot.dot(rows, { x: "x", y: "y", r: 1.4, fill, fillOpacity: 0.45 })),
        ...bySeries(chart.points.filter((row) => !row.faint), (rows, stroke) => [
          Plot.line(rows, { x: "x", y: "y", stroke, strokeWidth: 1.5 }),
          Plot.dot(rows, { x: "x", y: "y", r: 2.4, fill: stroke }),
        ]),
        tip(chart.points, "x", "y"),
      ],
    });
  }

  function slope(chart, width) {
    const ends = chart.rows.flatMap((row) => [
      { ...row, x: chart.sides[0], y: row.a }, { ...row, x: chart.sides[1], y: row.b },
    ]);
    const small = narrow(width);
    const height = 120 + chart.rows.length * 20;
    const [first, last] = d3.extent(ends, (end) => end.y);
    // Names that would lie on one another move down, a line each.
    const line = (14 * (last - first || 1)) / (height - 60);
    const apart = (side) => {
      let at = -Infinity;
      return d3.sort(side, (end) => end.y).map((end) => {
        at = Math.max(end.y, at + line);
        return { ...end, at };
      });
    };
    // ir_k3_e6_g1_s2_i24_o32_h56_w56 in the width of a phone: k3e6g1s2i24o32 56²
    const short = (key) =>
      key.replace(/^ir_/, "").replace(/_h(\d+)_w\d+$/, " $1²").replaceAll("_", "");
    const name = (end) => (small ? short(end.n) : end.n);
    const fontSize = small ? 9 : 11;
    const left = ends.filter((end) => end.x === chart.sides[0]);
    const right = ends.filter((end) => end.x === chart.sides[1]);
    return Plot.plot({
      ...base(chart, width),
      height, marginLeft: small ? 104 : 250,
      marginRight: small ? 104 : 250, marginTop: 30,
      x: { type: "point", domain: chart.sides, axis: "top", label: null, padding: 0 },
      y: { reverse: true, axis: null },
      marks: [
        ...bySeries(ends, (rows, stroke) =>
          Plot.line(rows, { x: "x", y: "y", z: "n", stroke, strokeWidth: 1.6 })),
        ...bySeries(ends, (rows, fill) => Plot.dot(rows, { x: "x", y: "y", fill, r: 3 })),
        Plot.text(apart(left), { x: "x", y: "at", text: name, textAnchor: "end", dx: -8, fontSize }),
        Plot.text(apart(right), { x: "x", y: "at", text: name, textAnchor: "start", dx: 8, fontSize }),
        tip(ends, "x", "y"),
      ],
    });
  }

  function bars(chart, width) {
    const small = narrow(width);
    return Plot.plot({
      ...base(chart, width),
      marginLeft: small ? 118 : 190, marginRight: 48, marginTop: 30,
      height: 60 + chart.rows.length * 20,
      x: { label: chart.xlabel, grid: true, axis: "top", ticks: small ? 4 : 8 },
      y: { domain: chart.rows.map((row) => row.n), label: null, tickSize: 0,
           tickFormat: (d) => (small && d.length > 20 ? `${d.slice(0, 19)}…` : d) },
      marks: [
        ...bySeries(chart.rows, (rows, fill) =>
          Plot.barX(rows, { y: "n", x: "v", fill, insetTop: 1.5, insetBottom: 1.5, rx: 2 })),
        Plot.text(chart.rows, { y: "n", x: "v", text: "l", dx: 4, textAnchor: "start",
          fill: "currentColor" }),
        tip(chart.rows, "v", "n"),
      ],
    });
  }

  const kinds = { heatmap, scatter, forest, time, slope, bars };

  function draw(box) {
    const width = Math.floor(box.clientWidth);
    if (width === 0 || width === box.drawn) return;
    box.drawn = width;
    const chart = charts[Number(box.dataset.chart)];
    const svg = kinds[chart.kind](chart, width);
    // One picture to a screen reader, named by its label; the table says the rest.
    svg.setAttribute("role", "img");
    for (const mark of svg.querySelectorAll("g[aria-label]")) {
      mark.dataset.mark = mark.getAttribute("aria-label");
      mark.removeAttribute("aria-label");
    }
    box.replaceChildren(svg);
  }

  const boxes = document.querySelectorAll(".chart");
  boxes.forEach(draw);
  addEventListener("resize", () => boxes.forEach(draw));
})();
