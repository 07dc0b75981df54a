package console

// DigestOf is how keys and requests are known to the record.
var DigestOf = digestOf

// Permitted is the table of roles.
var Permitted = permitted
