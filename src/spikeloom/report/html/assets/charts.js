"use strict";
// The figures: drawn when they come into view, drawn again when something changes.

(() => {
  const { data, marks } = page;
  const options = { part: "validation", along: "epochs", scale: "linear loss" };
  const MANY = 12; // above, lines are thin until one is brought forward
  const narrow = () => innerWidth < 640;
  const metric = data.metric; // that decides: name, word, unit, best ("high" or "low"), scale of stored values
  const unit = metric.unit ? ` ${metric.unit}` : "";
  const digits = metric.unit === "%" ? ".2f" : ".4~g";
  const titled = (words) => ({ text: metric.unit ? `${words} ${metric.word} (${metric.unit})` : `${words} ${metric.word}` });

  /** An axis of scores, the better ones on top. */
  const scores = (range) => ({ range: metric.best === "high" ? range : range.reverse() });
  const least = (value) => (metric.unit === "%" ? Math.max(0, value) : value);
  const most = (value) => (metric.unit === "%" ? Math.min(100.5, value) : value);

  // --- colours and emphasis ----------------------------------------------------------------------

  const probe = document.createElement("i");
  document.body.append(probe);

  /** The colour behind a variable, as rgb(...) or rgba(...). */
  function colour(name, alpha = 1) {
    probe.style.color = `var(${name})`;
    const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3);
    return `rgba(${parts.join(",")},${alpha})`;
  }

  const shown = () => data.entries.map((_, e) => e).filter((e) => marks[e] && !page.hidden.has(e));

  /** How much an entry stands out: 2 brought forward, 1 as usual, 0 behind another. */
  function weight(e) {
    if (page.hover !== null) return page.hover === e ? 2 : 0;
    if (page.picked.size) return page.picked.has(e) ? 2 : 0;
    return 1;
  }

  function stroke(e) {
    const many = shown().length > MANY;
    const level = weight(e);
    const alpha = [0.13, many ? 0.55 : 1, 1][level];
    const width = [1.2, many ? 1.3 : 2, 2.8][level];
    return { line: { color: colour(marks[e].colour, alpha), width, dash: many && level < 2 ? "solid" : marks[e].dash }, alpha, level };
  }

  /** Entries in drawing order: those brought forward last. */
  const ordered = () => shown().sort((a, b) => weight(a) - weight(b) || a - b);

  const name = (e) => escaped(data.entries[e].label);
  const escaped = (text) =>
    String(text).replace(/[&<>]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[one]);
  const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  function layout(more) {
    const { xaxis, yaxis, ...rest } = more;
    const axis = {
      gridcolor: colour("--line"),
      linecolor: colour("--line"),
      zeroline: false,
      automargin: true,
      ticks: "outside",
      tickcolor: colour("--line"),
      ticklen: 4,
      title: { standoff: 8 },
    };
    const merged = (own) => ({ ...axis, ...own, title: { ...axis.title, ...own?.title } });
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("--ink") },
      margin: { l: 50, r: 12, t: 28, b: 44 },
      height: 320,
      showlegend: false,
      hovermode: "closest",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft", 0.6), activecolor: colour("--ink") },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      xaxis: merged(xaxis),
      yaxis: merged(yaxis),
      ...rest,
    };
  }

  const CONFIG = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
    displayModeBar: "hover",
  };

  function note(section, text) {
    const place = document.querySelector(`[data-note="${section}"]`);
    if (place) place.textContent = text;
  }

  // --- learning curves ---------------------------------------------------------------------------

  function band(x, one, e, scale = 1) {
    return {
      x: [...x, ...[...x].reverse()],
      y: [...one.high, ...[...one.low].reverse()].map((y) => y * scale),
      fill: "toself",
      fillcolor: colour(marks[e].colour, 0.16),
      line: { width: 0 },
      mode: "lines",
      hoverinfo: "skip",
    };
  }

  /** Axes that fit the entries under comparison, from their second tenth on. */
  function framed(key, inTime) {
    const there = shown().filter((e) => data.entries[e].rival && data.curves[e]?.[key]);
    const done = there.filter((e) => data.entries[e].state === "done");
    const rivals = done.length ? done : there;
    if (!rivals.length) return { x: {}, y: {} };
    const ends = [];
    const values = [];
    for (const e of rivals) {
      const curve = data.curves[e];
      const { mean, low, high } = curve[key];
      ends.push(inTime ? curve.seconds[mean.length - 1] : mean.length);
      const skip = mean.length > 3 ? Math.max(1, Math.floor(mean.length / 10)) : 0;
      values.push(...low.slice(skip), ...high.slice(skip));
    }
    const score = key.endsWith(metric.name);
    const scale = score ? metric.scale : 1;
    const [low, high] = [Math.min(...values) * scale, Math.max(...values) * scale];
    const pad = 0.06 * (high - low || 1);
    const end = Math.max(...ends);
    const start = inTime ? 0 : 1;
    const whole = inTime || end > 10 ? {} : { dtick: 1 }; // no half epochs
    return {
      x: end > start ? { range: [start - 0.01 * (end - start), end + 0.01 * (end - start)], ...whole } : {},
      y: score ? scores([least(low - pad), most(high + pad)]) : { range: [Math.max(low - pad, -pad), high + pad] },
    };
  }

  function curves(figure) {
    const key = (options.part === "validation" ? "val_" : "") + figure;
    const score = figure === metric.name;
    const scale = score ? metric.scale : 1;
    const inTime = options.along === "seconds";
    const traces = [];
    const bounds = new Map();
    const many = shown().length > MANY;
    for (const e of ordered()) {
      const curve = data.curves[e];
      if (!curve || !curve[key]) continue;
      const { line, level } = stroke(e);
      const x = inTime ? curve.seconds : curve[key].mean.map((_, place) => place + 1);
      if (curve.seeds > 1 && (level === 2 || (level === 1 && !many))) traces.push(band(x, curve[key], e, scale));
      const state = data.entries[e].state === "unfinished" ? " (unfinished)" : "";
      traces.push({
        x,
        y: curve[key].mean.map((y) => y * scale),
        mode: x.length > 1 ? "lines" : "markers",
        line,
        marker: { color: line.color, symbol: marks[e].symbol, size: 7 },
        hovertemplate: `${name(e)}${state}<br>%{y:.4~g}${score ? unit : ""} after ${inTime ? "%{x:.3~g} s" : "%{x} epochs"}<extra></extra>`,
      });
      if (!inTime) for (const [place, rule] of curve.stages) if (place) bounds.set(place + 0.5, rule);
    }
    const log = !score && options.scale === "log loss";
    const frame = framed(key, inTime);
    const few = bounds.size <= 6 ? [...bounds] : [];
    return [
      traces,
      layout({
        xaxis: { title: { text: inTime ? "training time (s)" : "epoch" }, ...frame.x },
        yaxis: {
          title: score ? titled(options.part) : { text: `${options.part} loss` },
          ...(log ? { type: "log", dtick: "D2" } : frame.y),
        },
        shapes: few.map(([x]) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" } })),
        annotations: few.map(([x, rule]) => ({ x, yref: "paper", y: 1, yanchor: "bottom", showarrow: false, text: escaped(shortened(rule, 12)), font: { size: 11, color: colour("--soft") } })),
        
      }),
    ];
  }

  // --- scores against cost -----------------------------------------------------------------------

  function tradeoff(key) {
    const cost = data.costs.find((one) => one.key === key);
    const there = ordered().filter((e) => data.points[e] && data.points[e][key] !== null);
    const rivals = there.filter((e) => data.entries[e].rival);
    const framing = (rivals.length ? rivals : there).map((e) => data.points[e]);
    const low = Math.min(...framing.map((point) => point[key]));
    const high = Math.max(...framing.map((point) => point[key]));
    const wide = low > 0 && high / low > 8;
    const far = wide ? high * (high / low) ** 0.08 : high * 1.08 || 1;
    const sign = metric.best === "high" ? 1 : -1; // of what is better
    const step = metric.unit === "%" ? 0.5 : 0.01 * (Math.abs(data.floor) || 1);
    const tops = framing.map((point) => sign * point[metric.name] + point.spread);
    const top = sign * Math.max(...tops, sign * data.floor + step);
    const beyond = top + 0.06 * (top - data.floor);
    const ceiling = metric.unit === "%" ? Math.min(beyond, Math.max(top, 100.2)) : beyond;
    const traces = cost.fronts.map((front) => {
      const line = front.filter((e) => !page.hidden.has(e)).map((e) => data.points[e]);
      const [first, last] = [line[0], line[line.length - 1]];
      return {
        x: line.length ? [first[key], ...line.map((point) => point[key]), far] : [],
        y: line.length ? [data.floor, ...line.map((point) => point[metric.name]), last[metric.name]] : [],
        mode: "lines",
        line: { shape: "hv", color: colour("--soft", 0.6), width: 1.2 },
        hoverinfo: "skip",
      };
    });
    for (const e of there) {
      const point = data.points[e];
      const { line, alpha, level } = stroke(e);
      const strong = level === 0 ? 0.2 : Math.max(alpha, 0.85);
      traces.push({
        x: [point[key]],
        y: [point[metric.name]],
        error_y: { type: "data", array: [point.spread], visible: point.spread > 0, color: line.color, thickness: 1.2, width: 3 },
        mode: "markers",
        marker: { color: colour(marks[e].colour, strong), symbol: marks[e].symbol, size: level === 2 ? 13 : 10, line: marks[e].symbol.endsWith("open") ? { width: 2 } : { width: 1, color: colour("--paper") } },
        hovertemplate: `${name(e)}<br>%{y:${digits}}${point.spread ? ` ± ${Number(point.spread.toPrecision(3))}` : ""}${unit}<br>${escaped(cost.title)}: %{x:.4~g}<extra></extra>`,
      });
    }
    if (key === data.costs[0].key) noteOutside();
    return [
      traces,
      layout({
        height: 290,
        xaxis: {
          title: { text: cost.title, font: { size: 12.5 } },
          type: wide ? "log" : "linear",
          ...(wide
            ? { range: [Math.log10(low / (far / high)), Math.log10(far)], ...logTicks(low / (far / high), far) }
            : { range: [0, far] }),
        },
        yaxis: { title: titled("test"), range: [data.floor, ceiling] },
      }),
    ];
  }

  /** Ticks at 1, 2, 5 of each decade, fewer where there are many decades. */
  function logTicks(low, high) {
    const decades = Math.log10(high / low);
    const steps = decades < 2.2 ? [1, 2, 5] : decades < 4 ? [1, 3] : [1];
    const tickvals = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of steps) {
        const value = Number(`${step}e${power}`);
        if (value >= low && value <= high) tickvals.push(value);
      }
    }
    const units = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
    const ticktext = tickvals.map((value) => {
      const unit = units.find(([size]) => value >= size);
      return unit ? `${value / unit[0]}${unit[1]}` : String(value);
    });
    return { tickvals, ticktext };
  }

  /** Name what the axes of scores leave out: bad entries, and controls far cheaper than nets. */
  function noteOutside() {
    const worse = (score) => (metric.best === "high" ? score < data.floor : score > data.floor);
    const under = shown().filter((e) => data.points[e] && worse(data.points[e][metric.name]));
    const named = under.map((e) => `${data.entries[e].label} (${Number(data.points[e][metric.name].toPrecision(3))}${unit})`);
    const text = named.length ? `Below the axes: ${named.join(", ")}. ` : "";
    const others = shown().some((e) => !data.entries[e].rival && !under.includes(e));
    note("tradeoffs", text + (others || named.length ? "Axes fit the entries under comparison; double-click a figure to see every point." : ""));
  }

  // --- firing rates ------------------------------------------------------------------------------

  const VERDICTS = { dead: "✕", saturated: "▲" };

  function rates() {
    const { sites, rows } = data.rates;
    const visible = rows.filter((row) => !page.hidden.has(row.entry));
    const plot = document.querySelector('[data-chart="rates"]').clientWidth;
    const width = Math.min(plot, 260 + 120 * sites.length);
    const titles = sites.map((site) => `${site.name}<br>${escaped(site.kind.replace("_", " "))}`);
    if (visible.length === 1) return rateBars(visible[0], titles, width);
    const cell = (row, site, key) => row.cells[site.name]?.[key];
    const most = narrow() ? 14 : 26;
    const names = visible.map((row) => shortened(data.entries[row.entry].label, most));
    const roomy = (plot - 180) / sites.length > 34;
    const text = visible.map((row) =>
      sites.map((site) => {
        const rate = cell(row, site, "rate");
        if (rate === undefined) return "";
        const mark = VERDICTS[cell(row, site, "verdict")] ?? "";
        return roomy ? `${mark} ${rate.toFixed(2)}`.trim() : mark;
      }),
    );
    const hover = visible.map((row) =>
      sites.map((site) => {
        const one = row.cells[site.name];
        if (!one) return "";
        const range = one.high > one.low ? ` (${one.low} to ${one.high})` : "";
        return `${name(row.entry)}<br>site ${escaped(site.name)}, ${one.neurons} neurons<br>${one.rate}${range} spikes per neuron and step${one.verdict ? `<br>${escaped(one.verdict)}` : ""}`;
      }),
    );
    const highest = Math.max(0.1, ...rows.flatMap((row) => Object.values(row.cells).map((one) => one.rate)));
    return [
      [
        {
          type: "heatmap",
          x: titles,
          y: visible.map((_, place) => place),
          z: visible.map((row) => sites.map((site) => cell(row, site, "rate") ?? null)),
          zmin: 0,
          zmax: highest,
          colorscale: [[0, colour("--low")], [1, colour("--high")]],
          xgap: 2,
          ygap: visible.length > 20 ? 1 : 2,
          text,
          texttemplate: "%{text}",
          textfont: { size: visible.length > 20 ? 10 : 12 },
          hovertext: hover,
          hovertemplate: "%{hovertext}<extra></extra>",
          hoverongaps: false,
          showscale: !narrow(),
          colorbar: { title: { text: "rate", side: "right" }, thickness: 10, outlinewidth: 0, len: 1, ticklen: 3 },
        },
      ],
      layout({
        width,
        height: 110 + visible.length * (visible.length > 20 ? 17 : 26),
        xaxis: { type: "category", side: "bottom", showgrid: false, tickangle: roomy ? 0 : -60, title: { text: "site" } },
        yaxis: { autorange: "reversed", showgrid: false, ticks: "", tickvals: visible.map((_, place) => place), ticktext: names.map(escaped) },
        margin: { l: 60, r: 10, t: 28, b: 60 },
      }),
    ];
  }

  function rateBars(row, titles, width) {
    const cells = data.rates.sites.map((site) => row.cells[site.name]);
    const there = cells.map((_, place) => place).filter((place) => cells[place]);
    return [
      [
        {
          type: "bar",
          x: there.map((place) => titles[place]),
          y: there.map((place) => cells[place].rate),
          error_y: {
            type: "data",
            symmetric: false,
            visible: there.some((place) => cells[place].high > cells[place].low),
            array: there.map((place) => cells[place].high - cells[place].rate),
            arrayminus: there.map((place) => cells[place].rate - cells[place].low),
            color: colour("--soft"),
            thickness: 1.2,
          },
          marker: { color: colour(marks[row.entry].colour, 0.85) },
          width: there.map(() => 0.5),
          hovertemplate: "%{x}: %{y:.4f} spikes per neuron and step<extra></extra>",
        },
        {
          x: there.map((place) => titles[place]),
          y: there.map((place) => cells[place].high),
          mode: "text",
          text: there.map((place) => `${VERDICTS[cells[place].verdict] ?? ""} ${cells[place].rate.toFixed(3)}`.trim()),
          textposition: "top center",
          cliponaxis: false,
          hoverinfo: "skip",
        },
      ],
      layout({
        width,
        xaxis: { type: "category", title: { text: "site" }, showgrid: false },
        yaxis: { title: { text: "spikes per neuron and step" }, rangemode: "tozero" },
        margin: { l: 56, r: 12, t: 28, b: 60 },
      }),
    ];
  }

  // --- scores against T --------------------------------------------------------------------------

  function steps() {
    const traces = [];
    const many = shown().length > MANY;
    const longest = Math.max(...data.steps.map((one) => one?.mean.length ?? 0));
    for (const e of ordered()) {
      const one = data.steps[e];
      const { line, level } = stroke(e);
      if (one) {
        const x = one.mean.map((_, place) => place + 1);
        if (level === 2 || (level === 1 && !many)) traces.push(band(x, one, e));
        traces.push({
          x,
          y: one.mean,
          mode: x.length <= 32 ? "lines+markers" : "lines",
          line,
          marker: { symbol: marks[e].symbol, size: level === 2 ? 9 : many ? 5 : 7 },
          hovertemplate: `${name(e)}<br>%{y:${digits}}${unit} from %{x} steps<extra></extra>`,
        });
      } else if (data.points[e] && !data.entries[e].spiking && !data.entries[e].control) {
        const y = data.points[e][metric.name];
        traces.push({
          x: [1, longest],
          y: [y, y],
          mode: "lines",
          line: { ...line, dash: "dash" },
          hovertemplate: `${name(e)}, no time<br>%{y:${digits}}${unit}<extra></extra>`,
        });
      }
    }
    return [
      traces,
      layout({
        height: 340,
        xaxis: { title: { text: "steps t of one pass" }, dtick: longest <= 16 ? 1 : undefined, range: [1 - 0.02 * longest, longest * 1.02] },
        yaxis: { title: titled("test"), ...stepsRange() },
      }),
    ];
  }

  /** Fit the entries under comparison; a control may lie far below. */
  function stepsRange() {
    const rivals = shown().filter((e) => data.entries[e].rival && data.steps[e]);
    const values = rivals.flatMap((e) => [...data.steps[e].low, ...data.steps[e].high]);
    for (const e of shown()) {
      if (data.points[e] && !data.entries[e].spiking && !data.entries[e].control) values.push(data.points[e][metric.name]);
    }
    if (!rivals.length) return {};
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = 0.05 * (high - low || 1);
    return scores([least(low - pad), most(high + pad)]);
  }

  // --- samples -----------------------------------------------------------------------------------

  const view = { entry: 0, sample: 0 };

  function sampleNow() {
    const own = data.samples[view.entry];
    return [own, own.samples[Math.min(view.sample, own.samples.length - 1)]];
  }

  const className = (own, k) => (own.classes && own.classes[k] !== undefined ? own.classes[k] : String(k));

  function paint(canvas, image) {
    const [channels, height, width] = image.shape;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const plane = width * height;
    for (let at = 0; at < plane; at++) {
      for (let c = 0; c < 3; c++) {
        pixels.data[4 * at + c] = image.pixels[(channels >= 3 ? c : 0) * plane + at];
      }
      pixels.data[4 * at + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  }

  function softmax(logits) {
    const top = Math.max(...logits);
    const powers = logits.map((one) => Math.exp(one - top));
    const total = powers.reduce((sum, one) => sum + one, 0);
    return powers.map((one) => one / total);
  }

  function forming() {
    const [own, sample] = sampleNow();
    return sample.target ? nearing(sample) : deciding(own, sample);
  }

  /** Answers in numbers, with what should be answered as dashed lines. */
  function nearing(sample) {
    const times = sample.logits.map((_, t) => t + 1);
    const traces = sample.target.flatMap((target, k) => {
      const color = colour(`--c${k % 8}`);
      return [
        {
          x: times,
          y: sample.logits.map((one) => one[k]),
          mode: times.length > 40 ? "lines" : "lines+markers",
          line: { color, width: 2 },
          hovertemplate: `number ${k}: %{y:.4~g} from %{x} steps<extra></extra>`,
        },
        {
          x: [0.8, times.length + 0.2],
          y: [target, target],
          mode: "lines",
          line: { color, width: 1.2, dash: "dash" },
          hovertemplate: `target ${k}: %{y:.4~g}<extra></extra>`,
        },
      ];
    });
    const xaxis = { title: { text: "steps t" }, dtick: times.length <= 16 ? 1 : undefined, range: [0.8, times.length + 0.2] };
    return [traces, layout({ height: 300, xaxis, yaxis: { title: { text: "answer" } } })];
  }

  function deciding(own, sample) {
    const shares = sample.logits.map(softmax); // [T][K]
    const times = shares.map((_, t) => t + 1);
    const last = shares[shares.length - 1];
    const order = last.map((_, k) => k).sort((a, b) => Math.max(...shares.map((s) => s[a])) - Math.max(...shares.map((s) => s[b])));
    const named = new Set([...order.slice(-3), sample.label, sample.prediction]);
    const traces = order.map((k) => {
      const chosen = k === sample.prediction;
      const right = k === sample.label;
      const tone = right ? "--c2" : chosen ? "--c1" : "--mute";
      return {
        x: times,
        y: shares.map((one) => 100 * one[k]),
        mode: times.length > 40 ? "lines" : "lines+markers",
        line: { color: colour(tone, chosen || right ? 1 : 0.55), width: chosen || right ? 2.6 : 1.2, dash: right || chosen ? "solid" : "dot" },
        marker: { size: chosen || right ? 7 : 4 },
        hovertemplate: `${escaped(className(own, k))}: %{y:.1f} % from %{x} steps<extra></extra>`,
      };
    });
    // the step from which the decision stays what it is
    const picks = shares.map((one) => one.indexOf(Math.max(...one)));
    let since = picks.length;
    while (since > 1 && picks[since - 2] === sample.prediction) since--;
    const ends = [...named].filter((k) => k < last.length).map((k) => ({ k, y: 100 * last[k] })).sort((a, b) => b.y - a.y);
    let above = Infinity;
    for (const end of ends) above = end.at = Math.min(end.y, above - 9);
    const lift = Math.max(0, -4 - above);
    return [
      traces,
      layout({
        height: 300,
        xaxis: { title: { text: "steps t" }, dtick: times.length <= 16 ? 1 : undefined, range: [0.8, times.length + 0.2] },
        yaxis: { title: { text: "probability (%)" }, range: [-4, 104] },
        shapes: [{ type: "line", x0: since, x1: since, y0: -4, y1: 104, line: { color: colour("--soft"), width: 1, dash: "dot" } }],
        annotations: [
          { x: since, y: 104, yanchor: "bottom", xanchor: since > times.length * 0.7 ? "right" : "left", showarrow: false, text: `decided from t = ${since}`, font: { size: 11.5, color: colour("--soft") } },
          ...ends.map(({ k, at }) => ({ x: 1, xref: "paper", xanchor: "left", xshift: 6, y: Math.min(100, at + lift), showarrow: false, text: escaped(shortened(className(own, k), 12)), font: { size: 12, color: colour(k === sample.label ? "--c2" : k === sample.prediction ? "--c1" : "--soft") } })),
        ],
        margin: { l: 52, r: 92, t: 26, b: 44 },
      }),
    ];
  }

  function traces() {
    const [own, sample] = sampleNow();
    const { layers } = sample;
    const stacked = narrow();
    const columns = stacked ? 1 : 2;
    const panels = layers.flatMap((layer) => [["raster", layer], ...(layer.v.length ? [["potential", layer]] : [])]);
    const lines = stacked ? panels.length : layers.length;
    const gap = 46; // pixels between panels
    const tall = 120;
    const height = lines * (tall + gap) + 40;
    const drawn = [];
    const axes = {};
    const notes = [];
    let row = -1;
    let before = null;
    const end = own.steps;
    panels.forEach(([kind, layer], number) => {
      if (stacked || layer !== before) row++;
      before = layer;
      const id = number ? String(number + 1) : "";
      const top = 1 - (row * (tall + gap)) / (height - 60);
      const bottom = top - tall / (height - 60);
      const left = kind === "potential" && columns === 2 ? 0.55 : 0;
      const right = columns === 2 && kind === "raster" ? 0.46 : 1;
      axes[`xaxis${id}`] = { domain: [left, right], anchor: `y${id}`, range: [0.5, end + 0.5], dtick: end <= 16 ? 1 : undefined, showgrid: kind !== "raster" };
      axes[`yaxis${id}`] = { domain: [Math.max(0, bottom), top], anchor: `x${id}` };
      const spikes = new Map(layer.shown.map((neuron, place) => [neuron, layer.spikes[place]]));
      notes.push({
        text: kind === "raster" ? `<b>${escaped(layer.site)}</b> ${escaped(layer.unit)}: spikes of ${layer.shown.length} of ${layer.neurons.toLocaleString("en")} neurons` : `<b>${escaped(layer.site)}</b> potential v of ${layer.traced.length} neurons`,
        xref: "paper", yref: "paper", x: left, y: top, xanchor: "left", yanchor: "bottom", yshift: 2, showarrow: false, font: { size: 12, color: colour("--soft") },
      });
      if (kind === "raster") {
        const z = layer.shown.map((neuron) => {
          const train = Array(end).fill(0);
          for (const t of spikes.get(neuron)) if (t < end) train[t] = 1; // from 0
          return train;
        });
        drawn.push({
          type: "heatmap", xaxis: `x${id}`, yaxis: `y${id}`,
          x: Array.from({ length: end }, (_, t) => t + 1), y: layer.shown.map((_, place) => place), z,
          zmin: 0, zmax: 1, showscale: false, xgap: end <= 60 ? 2 : 0, ygap: layer.shown.length <= 40 ? 1 : 0,
          colorscale: [[0, colour("--low")], [1, colour("--high")]],
          customdata: layer.shown.map((neuron) => Array(end).fill(neuron)),
          hovertemplate: "neuron %{customdata}, t = %{x}<extra></extra>",
        });
        Object.assign(axes[`yaxis${id}`], { showticklabels: false, ticks: "", showgrid: false, title: { text: "neuron" } });
      } else {
        layer.traced.forEach((neuron, place) => {
          const tone = `--c${[0, 1, 3, 4, 5, 2, 6, 7][place % 8]}`;
          const v = layer.v[place];
          drawn.push({
            xaxis: `x${id}`, yaxis: `y${id}`, x: v.map((_, t) => t + 1), y: v, mode: end <= 32 ? "lines+markers" : "lines",
            line: { color: colour(tone), width: 1.6 },
            marker: { size: 6, symbol: v.map((_, t) => (spikes.get(neuron)?.includes(t) ? "triangle-up" : "circle-open")) },
            hovertemplate: `neuron ${neuron}: v = %{y:.3f} at t = %{x}<extra></extra>`,
          });
        });
        const levels = layer.levels?.length ? layer.levels : [layer.v_th ?? null];
        for (const level of new Set(levels)) {
          if (level === null) continue;
          drawn.push({
            xaxis: `x${id}`, yaxis: `y${id}`, x: [0.5, end + 0.5], y: [level, level], mode: "lines",
            line: { color: colour("--soft"), width: 1.2, dash: "dash" }, hovertemplate: `threshold ${level}<extra></extra>`,
          });
        }
        Object.assign(axes[`yaxis${id}`], { title: { text: "v" }, nticks: 4 });
      }
      if (row === lines - 1) axes[`xaxis${id}`].title = { text: "steps t" };
    });
    const base = layout({ height, margin: { l: 44, r: 12, t: 24, b: 44 }, annotations: notes });
    const { xaxis, yaxis } = base;
    for (const [key, axis] of Object.entries(axes)) {
      const template = key.startsWith("x") ? xaxis : yaxis;
      base[key] = { ...template, ...axis, title: { ...template.title, ...axis.title } };
    }
    return [drawn, base];
  }

  /** What should be answered, and what was. */
  function told(own, sample) {
    if (sample.target) {
      const last = sample.logits[sample.logits.length - 1];
      return `Target: ${sample.target.join(", ")}. Answer: ${last.join(", ")}.`;
    }
    const wrong = sample.label === sample.prediction ? "." : ", wrong.";
    return `Label: ${className(own, sample.label)}. Predicted: ${className(own, sample.prediction)}${wrong}`;
  }

  function showSample() {
    const [own, sample] = sampleNow();
    const thumbs = document.getElementById("thumbs");
    thumbs.replaceChildren(
      ...own.samples.map((one, number) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = `test sample ${one.index}: ${told(own, one)}`;
        button.classList.toggle("wrong", !one.target && one.label !== one.prediction);
        button.setAttribute("aria-pressed", number === view.sample);
        if (one.image) paint(button.appendChild(document.createElement("canvas")), one.image);
        else button.appendChild(document.createElement("span")).textContent = one.index;
        button.addEventListener("click", () => ((view.sample = number), showSample()));
        return button;
      }),
    );
    const picture = document.getElementById("picture");
    picture.hidden = !sample.image;
    if (sample.image) paint(picture, sample.image);
    picture.setAttribute("aria-label", `test sample ${sample.index}`);
    document.getElementById("verdict").textContent = `Test sample ${sample.index}. ${told(own, sample)}`;
    document.querySelector('.plot[data-chart="traces"]').hidden = !sample.layers.length;
    redraw(["forming", "traces"]);
  }

  const chooser = document.getElementById("sample-entry");
  if (chooser) {
    data.samples.forEach((own, e) => {
      if (own?.samples.length) chooser.append(new Option(data.entries[e].label, e));
    });
    // a net without spikes has a picture and an answer, but nothing to trace
    const spiking = data.samples.findIndex((own) => own?.samples[0]?.layers.length);
    if (spiking >= 0) chooser.value = spiking;
    view.entry = Number(chooser.value);
    chooser.addEventListener("change", () => {
      view.entry = Number(chooser.value);
      view.sample = Math.min(view.sample, data.samples[view.entry].samples.length - 1);
      showSample();
    });
  }

  // --- drawing what is in view -------------------------------------------------------------------

  const charts = { loss: () => curves("loss"), [metric.name]: () => curves(metric.name), rates, steps, forming, traces };
  const places = page.all(".plot").map((place) => ({ place, name: place.dataset.chart, near: false, stale: true }));
  const draw = (chart) => (chart.startsWith("cost:") ? tradeoff(chart.slice(5)) : charts[chart]());

  // one figure per frame, so that the page answers between two of them
  let queued = false;
  function paintNext() {
    const one = places.find(({ near, stale }) => near && stale);
    queued = one !== undefined;
    if (!one) return;
    one.stale = false;
    const [traces, arrangement] = draw(one.name);
    Plotly.react(one.place, traces, arrangement, CONFIG);
    requestAnimationFrame(paintNext);
  }
  function redraw(names) {
    for (const one of places) if (!names || names.includes(one.name)) one.stale = true;
    if (queued) return;
    queued = true;
    requestAnimationFrame(paintNext);
  }

  const watcher = new IntersectionObserver(
    (seen) => {
      for (const one of seen) places.find(({ place }) => place === one.target).near = one.isIntersecting;
      redraw([]);
    },
    { rootMargin: "250px" },
  );
  for (const { place } of places) watcher.observe(place);

  const emphasised = places.map(({ name: chart }) => chart).filter((chart) => !["forming", "traces", "rates"].includes(chart));
  let waiting = 0;
  page.listeners.push((what) => {
    clearTimeout(waiting);
    if (what === "hover") waiting = setTimeout(() => redraw(emphasised), 60);
    else redraw(what === "theme" ? null : what === "filter" ? [...emphasised, "rates"] : emphasised);
  });
  for (const button of page.all("[data-choice]")) {
    button.addEventListener("click", () => {
      options[button.dataset.choice] = button.dataset.value;
      for (const other of page.all(`[data-choice="${button.dataset.choice}"]`)) {
        other.setAttribute("aria-pressed", other === button);
      }
      redraw(["loss", metric.name]);
    });
  }
  addEventListener("resize", () => redraw(["rates", "traces"]));
  if (chooser && chooser.options.length) showSample();
})();
