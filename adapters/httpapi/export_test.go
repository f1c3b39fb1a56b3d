package httpapi

// StatusOf is the status of each kind of fault.
var StatusOf = statusOf
