#pragma once
// Writes a container front to back in one pass, with all its digests. Given a path, the file appears under
// that name only when finish() has made it durable; given a file, the caller takes care of that. Used by one
// thread, except that write() and hash() may run at the same time.
//
//   ContainerWriter writer(path, description);
//   writer.add_section("tokenizer", bytes);
//   for (const ModelTensor& tensor : model_tensors(description)) {
//     writer.begin_tensor(tensor, storage, DType::bf16);
//     writer.append(bytes);  // any number of times, storage_bytes() in all; or write() and hash()
//     writer.end_tensor(source_digest);
//   }
//   const auto written = writer.finish();

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/file_stream.h"
#include "base/leaf_queue.h"
#include "base/merkle.h"
#include "base/paired_hasher.h"
#include "format/container_format.h"
#include "format/json.h"
#include "format/model_description.h"
#include "format/model_tensors.h"

namespace sluice::format {

struct WrittenContainer {
  std::uint64_t file_bytes = 0;
  base::Sha256 root;            ///< ContainerReader::root()
  base::Sha256 tensors_sha256;  ///< ContainerReader::tensors_sha256()
  base::Sha256 file_sha256;
};

class ContainerWriter final {
 public:
  ContainerWriter(const std::filesystem::path& path, const ModelDescription& description);
  /// Overwrites `file` from its beginning. The file must outlive the writer.
  ContainerWriter(base::File& file, const ModelDescription& description);

  void add_section(std::string_view name, base::Bytes bytes);

  /// `expert_bytes` is, for the first tensor of an expert, the size of the whole expert
  /// (expert_extent_bytes), which decides its alignment; 0 for all other tensors.
  void begin_tensor(const ModelTensor& tensor, Storage storage, DType source_dtype,
                    std::uint64_t expert_bytes = 0);
  /// Writes and hashes bytes of the current tensor, in order.
  void append(base::Bytes bytes);
  /// The two halves of append(). One thread may be in write() while another is in hash().
  void write(base::Bytes bytes) { stream_.append(bytes); }
  void hash(base::Bytes bytes);
  /// Does the same as hash(bytes), but puts the leaves into `leaves`; any thread hashes them before
  /// end_tensor(). The call itself hashes some waiting leaves, interleaved with the file's hash, which costs
  /// little more than either alone.
  void hash(base::Bytes bytes, base::LeafQueue& leaves);
  /// Optional, after the last write(): hands the tensor to the system, up to the page on which the next one
  /// begins.
  void finish_write();
  /// Replaces all of these calls for a tensor that an earlier run has written into the file. False when the
  /// bytes in the file do not match the digest; the writer cannot be used afterwards.
  [[nodiscard]] bool adopt_tensor(const base::Sha256& digest, const base::Sha256& source_digest);
  /// Returns the tensor's digest.
  base::Sha256 end_tensor(const base::Sha256& source_digest);

  /// Where the weights came from, and how they were converted; `sluice inspect` shows both.
  void set_provenance(Json provenance) { provenance_ = std::move(provenance); }
  void set_recipe(Json recipe) { recipe_ = std::move(recipe); }

  [[nodiscard]] WrittenContainer finish();

 private:
  void put(base::Bytes bytes);
  void pad_to(std::uint64_t alignment_bytes);
  void hash_zeros_to(std::uint64_t offset_bytes);
  base::Bytes hash_in_leaf(base::Bytes bytes);
  void end_leaf();
  [[nodiscard]] std::uint64_t offset_bytes() const { return stream_.offset_bytes(); }

  ModelDescription description_;
  std::optional<base::AtomicFile> output_;  // when the caller gave a path
  base::File& file_;
  base::FileStream stream_;
  base::PairedHasher<base::Sha256> file_hasher_;
  std::uint64_t hashed_bytes_ = 0;                // bytes fed into file_hasher_
  base::PairedHasher<base::Sha256> leaf_hasher_;  // for a leaf whose bytes come in several calls
  std::size_t leaf_bytes_ = 0;                    // bytes fed into leaf_hasher_
  // The leaves of the current tensor, allocated at once because a queue keeps pointers to them, and how many
  // of them have all their bytes.
  std::vector<base::Sha256> leaves_;
  std::size_t leaf_count_ = 0;
  std::vector<ContainerTensor> tensors_;
  std::vector<ContainerSection> sections_;
  Json provenance_ = Json::object();
  Json recipe_ = Json::object();
};

/// Bytes of an expert of a layer in the payload when its matrices are stored so, with the page alignment
/// between its tensors.
[[nodiscard]] std::uint64_t expert_extent_bytes(const ModelDescription& description, std::uint64_t layer,
                                                Storage storage);

}  // namespace sluice::format
