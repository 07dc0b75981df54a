package console

// DigestOf is how keys and requests are known to the record.
var DigestOf = digestOf
