
(function () {
  "use strict";
  var controls = document.querySelector(".controls");
  var body = document.getElementById("rows");
  if (!controls || !body) { return; }
  var rows = Array.prototype.slice.call(body.children);
  var find = document.getElementById("find");
  var order = document.getElementById("order");
  var found = document.getElementById("found");
  var none = document.getElementById("none");
  var filters = Array.prototype.slice.call(controls.querySelectorAll("select[data-filter]"));
  var words = rows.map(function (row) {
    return (row.textContent + " " + (row.getAttribute("data-more") || "")).toLowerCase().replace(/\u2212/g, "-");
  });
  function narrow() {
    var wanted = find.value.toLowerCase().replace(/\u2212/g, "-").split(/\s+/);
    var seen = 0;
    rows.forEach(function (row, place) {
      var fits = wanted.every(function (word) { return words[place].indexOf(word) >= 0; }) &&
        filters.every(function (one) {
          var mine = "|" + row.getAttribute("data-is-" + one.getAttribute("data-filter")) + "|";
          return !one.value || mine.indexOf("|" + one.value + "|") >= 0;
        });
      row.hidden = !fits;
      seen += fits ? 1 : 0;
    });
    found.textContent = seen === rows.length ? "" : seen + " of " + rows.length + " shown";
    none.hidden = seen !== 0;
  }
  function arrange() {
    var chosen = order.options[order.selectedIndex];
    var key = chosen.value;
    var down = chosen.hasAttribute("data-down");
    var number = chosen.hasAttribute("data-number");
    var sorted = rows.map(function (row, place) {
      var text = row.getAttribute("data-by-" + key) || "";
      return { row: row, place: place, by: number ? Number(text || "-Infinity") : text };
    });
    if (key) {
      sorted.sort(function (a, b) {
        var way = a.by < b.by ? -1 : a.by > b.by ? 1 : 0;
        return (down ? -way : way) || a.place - b.place;
      });
    }
    sorted.forEach(function (one) { body.appendChild(one.row); });
  }
  find.addEventListener("input", narrow);
  filters.forEach(function (one) { one.addEventListener("change", narrow); });
  order.addEventListener("change", arrange);
  controls.hidden = false;
  narrow();
})();
