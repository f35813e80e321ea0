// The threshold explorer. The data stand in the page; nothing is fetched.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const slider = byId("threshold"), choice = byId("set");

  // One stop above everything, then each distinct confidence: the interesting ones crowd at 1.
  function stopsOf(values) {
    return [...new Set(values.map((pair) => pair[0]))];
  }

  function show() {
    const set = data[choice.value], stops = stopsOf(set.values);
    slider.max = stops.length;
    const place = Number(slider.value);
    const threshold = place === 0 ? Infinity : stops[place - 1];
    let served = 0, right = 0;
    for (const [confidence, isRight] of set.values) {
      if (confidence < threshold) break;
      served += 1;
      right += isRight;
    }
    const share = (count, of) => (of ? (100 * count / of).toFixed(1) + " %" : "-");
    byId("at").textContent = place === 0 ? "none served" : threshold.toFixed(5);
    byId("served").textContent = served;
    byId("wrong").textContent = served - right + " (" + share(served - right, served) + ")";
    byId("recall").textContent = share(right, set.must_hit);
    byId("saved").textContent = share(served, set.probes);
    slider.setAttribute("aria-valuetext", byId("at").textContent);
  }

  function start() {
    const set = data[choice.value], stops = stopsOf(set.values);
    slider.max = stops.length;
    slider.value = stops.filter((stop) => stop >= set.threshold - 5e-6).length;
    show();
  }

  choice.addEventListener("change", start);
  slider.addEventListener("input", show);
  start();
})();
