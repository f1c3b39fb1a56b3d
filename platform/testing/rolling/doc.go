// Package rolling replaces releases under load. Three instances behind the bundled
// proxy serve users while they are replaced one by one: by newer releases, by older
// ones again, and by newer ones at last, up to three releases at once on one
// database whose schema is the newest. No request may fail. Run it with make
// rolling; it needs the history of the repository, from which it builds the older
// releases.
package rolling
