#pragma once
// The kinds of checkpoint files that Sluice reads. One table holds what differs between them on the way to a
// CheckpointIndex: name, first bytes, file name extensions, and the function that opens one file. A further
// kind is a further line of that table (checkpoint_kind.cpp).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"

namespace sluice::format {

struct CheckpointIndex;  // checkpoint_index.h

enum class CheckpointKind : std::uint8_t { pth, safetensors, gguf, pickle };

/// "pth", "safetensors", "gguf" or "pickle", as reports and `--json` spell it.
[[nodiscard]] std::string_view to_string(CheckpointKind kind);

/// The kind that the first bytes of a file show; without any, the kind that its name promises, so that
/// opening the file says what it holds instead. Nothing for other files.
[[nodiscard]] std::optional<CheckpointKind> recognise_checkpoint(const std::filesystem::path& file);

/// True when the first bytes of the file are those of a checkpoint. They do not show whether it is sound.
[[nodiscard]] bool is_checkpoint(const std::filesystem::path& file);

/// Opens one file as the given kind, as open_pth(), open_safetensors(), open_gguf() and
/// open_pickle() do.
[[nodiscard]] CheckpointIndex open_checkpoint_file(CheckpointKind kind, const std::filesystem::path& file);

/// The first bytes of a file, as many as it takes to recognise it.
[[nodiscard]] std::string read_head(const base::File& file);
[[nodiscard]] bool is_zip(std::string_view head);
[[nodiscard]] bool is_gguf(std::string_view head);
/// A safetensors file has no magic: the test is for a plausible header length and JSON behind it.
[[nodiscard]] bool looks_like_safetensors(std::string_view head);
/// Says what a file is that people often have in the place of the `expected` one, for example "is a web page,
/// not a checkpoint: ..."; empty when the bytes are not recognised.
[[nodiscard]] std::string describe_lookalike(std::string_view head, std::string_view expected = "checkpoint");

}  // namespace sluice::format
