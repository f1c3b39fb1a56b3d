// Runs before the first paint: sets the chosen colours, and which view the
// address means.
(function () {
  var root = document.documentElement
  try {
    var theme = localStorage.getItem('parley.theme')
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme
  } catch (_) { /* storage may be blocked: the system's colours apply */ }
  if (location.pathname.indexOf('/share/') === 0) root.dataset.view = 'share'
})()
