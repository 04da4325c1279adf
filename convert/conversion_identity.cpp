#include "convert/conversion_identity.h"

#include <concepts>

#include "base/error.h"
#include "base/hasher.h"
#include "convert/build_id.h"
#include "format/hub/sections.h"

namespace sluice::convert {
namespace {

/// Hashes each value with its length, so that two different lists of values never hash the same bytes.
class Fingerprint {
 public:
  void add(base::Bytes bytes) {
    add(bytes.size());
    hasher_.update(bytes);
  }
  void add(std::string_view text) { add(base::as_bytes(text)); }
  template <std::integral T>
  void add(T number) {
    std::array<std::byte, sizeof(T)> bytes;
    base::store_le(bytes, 0, number);
    hasher_.update(bytes);
  }
  [[nodiscard]] base::Sha256 digest() { return hasher_.final(); }

 private:
  base::Hasher<base::Sha256> hasher_;
};

/// Another build may encode differently, and tensors of two builds must not meet in one container.
base::Sha256 digest_of_program() {
  Fingerprint print;
  print.add(build_id());
  return print.digest();
}

/// Identifies files by their stamps, not by content: hashing a release would cost a good part of what
/// converting it costs. A release whose files have new stamps starts over, which costs time and never
/// correctness.
base::Sha256 digest_of_release(const Plan& plan) {
  Fingerprint print;
  for (const base::File& file : plan.files) {
    const auto found = base::identify(file.path());
    if (!found) throw base::Error(base::ErrorKind::io, file.path().string() + ": can no longer be examined");
    print.add(found->inode);
    print.add(found->size_bytes);
    print.add(found->modified_ns);
    print.add(found->changed_ns);
  }
  print.add(plan.release.layout);
  for (const auto& section : format::released_sections(plan.release)) {
    print.add(section.name);
    print.add(section.content);
  }
  return print.digest();
}

/// Threads, memory and paths are left out, because the bytes do not depend on them.
base::Sha256 digest_of_recipe(const Request& request, const Plan& plan) {
  Fingerprint print;
  for (const PlannedTensor& tensor : plan.tensors) {
    print.add(tensor.target.name);
    print.add(format::type_name(tensor.storage));
    print.add(format::layout_name(tensor.storage));
  }
  print.add(request.calibration ? request.calibration->text_sha256 : std::string());
  return print.digest();
}

}  // namespace

ConversionIdentity identify(const Request& request, const Plan& plan) {
  return {plan.tensors.size(), digest_of_program(), digest_of_release(plan), digest_of_recipe(request, plan)};
}

base::Sha256 digest_of(const ConversionIdentity& identity) {
  return base::hash<base::Sha256>(conversion_journal_header(identity));
}

}  // namespace sluice::convert
