#pragma once
// Typed access to the pairs of a GGUF file, with errors that name file and key. Keys of the model lie in the
// name space of its architecture ("qwen3moe.block_count"); each that is asked for is noted, so that the
// others can be refused at the end, because they may change the result.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/checkpoint_index.h"

namespace sluice::format {

/// Private to format/gguf. The index must outlive it. Keys are whole ones; key() makes those of the model.
class GgufKeys final {
 public:
  explicit GgufKeys(const CheckpointIndex& checkpoint);

  [[nodiscard]] const std::string& subject() const { return subject_; }
  [[noreturn]] void refuse(std::string_view key, const std::string& cause) const;

  /// "general.architecture"; error if it is missing.
  [[nodiscard]] std::string architecture() const;
  /// `rest` in the name space of the architecture, noted as known.
  [[nodiscard]] std::string key(std::string_view rest);

  [[nodiscard]] const GgufValue* find(std::string_view key) const;
  /// Writers choose any integer type for a key, so signed numbers are accepted as well, and so is an array
  /// with one and the same number for each layer.
  [[nodiscard]] std::optional<std::uint64_t> find_uint(std::string_view key) const;
  [[nodiscard]] std::uint64_t uint(std::string_view key) const;
  /// The decimal number that an f32 stands for: 1e-05, not 9.99999974737875e-06. GGUF stores f32, params.json
  /// decimals; without this step the same model would have two descriptions.
  [[nodiscard]] std::optional<double> find_float(std::string_view key) const;
  [[nodiscard]] std::string text(std::string_view key) const;
  [[nodiscard]] std::optional<std::string> find_text(std::string_view key) const;
  [[nodiscard]] bool truth(std::string_view key, bool otherwise) const;

  template <typename T>
  [[nodiscard]] const std::vector<T>& list(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) refuse(key, "is missing");
    if (const auto* passed = std::get_if<GgufLongArray>(value)) {
      refuse(key, "has " + std::to_string(passed->count) + " elements, and Sluice reads at most " +
                      std::to_string(kGgufElementsMax));
    }
    const auto* list = std::get_if<std::vector<T>>(value);
    if (list == nullptr) refuse(key, "is not of the expected type");
    return *list;
  }

  /// Refuses the keys of the architecture that nobody has asked for. Keys in other name spaces ("general.*")
  /// describe the file.
  void refuse_others() const;

 private:
  const GgufPairs& pairs_;
  std::string subject_;
  std::vector<std::string> known_;
};

}  // namespace sluice::format
