#pragma once
// Which conversion this is, so that an unfinished container is gone on with only by the same one.

#include "convert/conversion_journal.h"
#include "convert/convert.h"
#include "convert/plan.h"

namespace sluice::convert {

/// The release's files count by inode, size and times (base::FileIdentity, but for the device, whose number
/// may change when the machine is started again), tokenizer and parameters by their content.
[[nodiscard]] ConversionIdentity identify(const Request& request, const Plan& plan);

/// One digest of it all.
[[nodiscard]] base::Sha256 digest_of(const ConversionIdentity& identity);

}  // namespace sluice::convert
