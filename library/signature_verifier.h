#pragma once
// Decides whether to believe a manifest, a checksum list, a torrent or a container, by the signature beside
// it (FILE.minisig) and the keys that the user trusts.

#include <filesystem>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/signature.h"
#include "library/context.h"
#include "library/signature_report.h"
#include "library/trusted_keys.h"

namespace sluice::library {

class SignatureVerifier final {
 public:
  /// `key`: the only key that counts, as find_key takes it; empty: the trusted keys. `context` must outlive
  /// the verifier.
  SignatureVerifier(const std::string& key, const Context& context);

  /// Verifies FILE.minisig over `content`, the content of FILE. Returns `valid`, or `none` when there is no
  /// such file and no key was asked for; everything else is Error{untrusted}, after on_signature. The
  /// observer is asked whether to trust an unknown key that lies beside the file.
  [[nodiscard]] SignatureReport verify(const std::filesystem::path& file, base::Bytes content);

  [[nodiscard]] bool has_key() const { return key_.has_value(); }

 private:
  [[nodiscard]] SignatureReport verify_signature(const base::Signature& signature,
                                                 const std::filesystem::path& file, base::Bytes content);
  [[nodiscard]] std::optional<TrustedKey> offer_key(const base::Signature& signature,
                                                    const std::filesystem::path& file, base::Bytes content);
  [[noreturn]] void refuse(SignatureReport report, SignatureState state, const std::string& why);

  const Context& context_;
  std::optional<TrustedKey> key_;
};

}  // namespace sluice::library
