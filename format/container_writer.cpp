// Writes a container in one pass and computes all its digests on the way: SHA-256 of the file, and for each
// tensor the root of a tree over leaves of 16 KiB (docs/decisions/0001-footer.md, 0004-tree-digests.md).
//
// Two positions advance independently: the stream's (bytes written) and hashed_bytes_ (bytes fed to the
// file's hash), so that one thread can write a tensor while another hashes it. The two threads touch disjoint
// members: write() and finish_write() the stream, hash() the hashers and leaves. At end_tensor() both
// positions stand behind the tensor. Padding is written by pad_to() or finish_write() and hashed as zeros
// when it is known that the tensor is complete.
//
// SHA-256 of the file is one chain from the first byte to the last, so hash() must see all bytes in file
// order, and only one thread at a time can be in it. Leaves have no such order.

#include "format/container_writer.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/invariant.h"
#include "format/container_directory.h"

namespace sluice::format {
namespace {

constexpr std::array<std::byte, 4096> kZeros{};
// At most this much of an adopted tensor is in memory.
constexpr std::size_t kReadBytes = 1u << 20;

}  // namespace

std::uint64_t expert_extent_bytes(const ModelDescription& description, std::uint64_t layer, Storage storage) {
  std::uint64_t end = 0;
  for (const ModelTensor& tensor : expert_tensors(description, layer, 0)) {
    // Aligned before each tensor, not after the last: the extent ends with the last tensor's bytes.
    end = base::align_up(end, kTensorAlignmentBytes) +
          storage_bytes(tensor.is_matrix() ? storage : Storage::f32_rows, tensor.shape);
  }
  return end;
}

ContainerWriter::ContainerWriter(const std::filesystem::path& path, const ModelDescription& description)
    : description_(description), output_(path), file_(output_->file()), stream_(file_, 0) {
  put(encode_header());
}

ContainerWriter::ContainerWriter(base::File& file, const ModelDescription& description)
    : description_(description), file_(file), stream_(file_, 0) {
  put(encode_header());
}

/// Writes and hashes bytes outside of tensors.
void ContainerWriter::put(base::Bytes bytes) {
  stream_.append(bytes);
  file_hasher_.update(bytes);
  hashed_bytes_ += bytes.size();
}

void ContainerWriter::pad_to(std::uint64_t alignment_bytes) {
  const std::uint64_t end = base::align_up(offset_bytes(), alignment_bytes);
  while (offset_bytes() < end)
    stream_.append(base::Bytes(kZeros).first(std::min(end - offset_bytes(), kZeros.size())));
  hash_zeros_to(end);
}

/// Feeds padding to the file's hash, without reading it back.
void ContainerWriter::hash_zeros_to(std::uint64_t offset_bytes) {
  while (hashed_bytes_ < offset_bytes) {
    const auto zeros = base::Bytes(kZeros).first(std::min(offset_bytes - hashed_bytes_, kZeros.size()));
    file_hasher_.update(zeros);
    hashed_bytes_ += zeros.size();
  }
}

void ContainerWriter::add_section(std::string_view name, base::Bytes bytes) {
  pad_to(kTensorAlignmentBytes);
  sections_.push_back({std::string(name), offset_bytes(), bytes.size(), base::hash<base::Sha256>(bytes)});
  put(bytes);
}

void ContainerWriter::begin_tensor(const ModelTensor& tensor, Storage storage, DType source_dtype,
                                   std::uint64_t expert_bytes) {
  // A large expert starts on a huge page, so that it can lie in huge pages as a whole. Gaps between small ones
  // would make up much of the file, and side by side they lie in the same huge pages.
  pad_to(expert_bytes > kLargeExpertBytes ? kLargeExpertAlignmentBytes : kTensorAlignmentBytes);
  ContainerTensor entry;
  entry.name = tensor.name;
  entry.shape = tensor.shape;
  entry.storage = storage;
  entry.offset_bytes = offset_bytes();
  entry.length_bytes = storage_bytes(storage, tensor.shape);
  entry.source_dtype = source_dtype;
  leaves_.resize(base::divide_up(entry.length_bytes, base::kMerkleBlockBytes));
  leaf_count_ = 0;
  tensors_.push_back(std::move(entry));
}

void ContainerWriter::append(base::Bytes bytes) {
  write(bytes);
  hash(bytes);
}

void ContainerWriter::hash(base::Bytes bytes) {
  base::LeafQueue leaves;
  hash(bytes, leaves);
  leaves.hash();
}

/// Whole leaves go to the queue, where many are hashed at once; only the parts of leaves at the start and the
/// end of `bytes` are hashed here.
void ContainerWriter::hash(base::Bytes bytes, base::LeafQueue& leaves) {
  // The padding behind a tensor is not part of its tree.
  INVARIANT(bytes.size() <= tensors_.back().offset_bytes + tensors_.back().length_bytes - hashed_bytes_);
  hashed_bytes_ += bytes.size();
  if (leaf_bytes_ > 0) bytes = hash_in_leaf(bytes);
  const std::size_t count = bytes.size() / base::kMerkleBlockBytes;
  const base::Bytes whole = bytes.first(count * base::kMerkleBlockBytes);
  leaves.add(whole, std::span(leaves_).subspan(leaf_count_, count));
  leaf_count_ += count;
  // The SHA unit works on the chain while the vector units hash waiting leaves, so both together cost little
  // more than either alone (docs/decisions/0013-conversions-take-what-there-is.md).
  leaves.hash_interleaved(file_hasher_, whole);
  hash_in_leaf(bytes.subspan(whole.size()));
}

/// Feeds the leaf that has begun as far as it has room. Returns the rest of the bytes.
base::Bytes ContainerWriter::hash_in_leaf(base::Bytes bytes) {
  const auto part = bytes.first(std::min(bytes.size(), base::kMerkleBlockBytes - leaf_bytes_));
  base::PairedHasher<base::Sha256>::update_pair(file_hasher_, part, leaf_hasher_, part);
  leaf_bytes_ += part.size();
  if (leaf_bytes_ == base::kMerkleBlockBytes) end_leaf();
  return bytes.subspan(part.size());
}

void ContainerWriter::end_leaf() {
  leaves_[leaf_count_++] = leaf_hasher_.final();
  leaf_bytes_ = 0;
}

// The caller may be in hash() on another thread, so only the stream is used here, and the padding's bytes are
// hashed later, by end_tensor().
void ContainerWriter::finish_write() {
  INVARIANT(offset_bytes() == tensors_.back().offset_bytes + tensors_.back().length_bytes);
  stream_.append(
      base::Bytes(kZeros).first(base::align_up(offset_bytes(), kTensorAlignmentBytes) - offset_bytes()));
  stream_.flush();
}

// Reads a tensor that an earlier run has written, and hashes it as if it had just been made: SHA-256 of the
// file needs its bytes in any case, and the digest tells whether they have reached the disk
// (docs/decisions/0010-finished-tensors-are-hashed-again.md).
bool ContainerWriter::adopt_tensor(const base::Sha256& digest, const base::Sha256& source_digest) {
  // A copy, not a reference: end_tensor() writes to the entry.
  const ContainerTensor tensor = tensors_.back();
  INVARIANT(offset_bytes() == tensor.offset_bytes);
  // A second descriptor: the stream's own may bypass the page cache, which would read without read-ahead.
  const auto written = base::File::open_read(file_.path());
  std::vector<std::byte> buffer(kReadBytes);
  base::Bytes bytes;
  for (std::uint64_t done = 0; done < tensor.length_bytes; done += bytes.size()) {
    const auto want = std::min<std::uint64_t>(kReadBytes, tensor.length_bytes - done);
    bytes = base::Bytes(buffer).first(
        written.read_at(tensor.offset_bytes + done, base::MutableBytes(buffer).first(want)));
    if (bytes.size() < want) return false;
    hash(bytes);
  }
  written.drop_cache(tensor.offset_bytes, tensor.length_bytes);
  // The last page is written again, because of its padding.
  const auto rest = static_cast<std::size_t>(tensor.length_bytes % kTensorAlignmentBytes);
  stream_.skip(tensor.length_bytes - rest);
  stream_.append(bytes.last(rest));
  return end_tensor(source_digest) == digest;
}

base::Sha256 ContainerWriter::end_tensor(const base::Sha256& source_digest) {
  ContainerTensor& tensor = tensors_.back();
  INVARIANT(hashed_bytes_ == tensor.offset_bytes + tensor.length_bytes);
  INVARIANT(offset_bytes() >= hashed_bytes_);
  hash_zeros_to(offset_bytes());
  if (leaf_bytes_ > 0) end_leaf();
  tensor.digest = base::merkle_root(leaves_);
  tensor.source_digest = source_digest;
  return tensor.digest;
}

WrittenContainer ContainerWriter::finish() {
  ContainerDirectory directory;
  // Computed before the members that it needs are moved away.
  directory.experts = experts_of(tensors_, description_);
  directory.description = std::move(description_);
  directory.tensors = std::move(tensors_);
  directory.sections = std::move(sections_);
  directory.provenance = std::move(provenance_);
  directory.recipe = std::move(recipe_);
  const std::string text = to_text(directory);

  pad_to(kTensorAlignmentBytes);
  ContainerFooter footer;
  footer.directory_offset_bytes = offset_bytes();
  footer.directory_length_bytes = text.size();
  footer.file_bytes = offset_bytes() + text.size() + kContainerFooterBytes;
  const ContainerDigests digests = digests_of(directory);
  footer.root = digests.root;
  footer.directory_sha256 = base::hash<base::Sha256>(base::as_bytes(text));
  put(base::as_bytes(text));
  put(encode_footer(footer));
  stream_.finish();

  WrittenContainer written;
  written.file_bytes = footer.file_bytes;
  written.root = digests.root;
  written.tensors_sha256 = digests.tensors;
  written.file_sha256 = file_hasher_.final();
  // The file takes its name only now: a conversion that is killed leaves no file that looks finished.
  if (output_) output_->commit();
  return written;
}

}  // namespace sluice::format
