#pragma once
// Identifies a conversion, so that only the same conversion continues an unfinished container.

#include "convert/conversion_journal.h"
#include "convert/convert.h"
#include "convert/plan.h"

namespace sluice::convert {

/// The release's files are identified by inode, size and times (base::FileIdentity without the device, whose
/// number may change at a reboot), tokenizer and parameters by their content.
[[nodiscard]] ConversionIdentity identify(const Request& request, const Plan& plan);

/// One digest of the whole identity.
[[nodiscard]] base::Sha256 digest_of(const ConversionIdentity& identity);

}  // namespace sluice::convert
