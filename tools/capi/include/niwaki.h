/* niwaki: open compressed checkpoints, decode and multiply with them. Made from tools/capi/src; do not edit. */

#ifndef NIWAKI_H
#define NIWAKI_H

#include <stddef.h>
#include <stdint.h>

/**
 * Changes whenever a program has to be compiled anew: it is the number in `libniwaki.so.0`.
 */
#define NIWAKI_ABI 0

/**
 * Dimensions that a tensor has at most.
 */
#define NIWAKI_MAX_DIMS 8

/**
 * What scratch begins at a multiple of, in bytes.
 */
#define NIWAKI_SCRATCH_ALIGNMENT 64

/**
 * What a function answers: nothing is wrong, or who has to act.
 */
typedef enum {
    /**
     * It is done.
     */
    NIWAKI_STATUS_OK = 0,
    /**
     * The disk, or the operating system in front of it.
     */
    NIWAKI_STATUS_IO = 1,
    /**
     * The file that was read: it is damaged, or none of ours.
     */
    NIWAKI_STATUS_INPUT = 2,
    /**
     * The arguments: a null handle, memory of another length or alignment, a width that is not served.
     */
    NIWAKI_STATUS_CALLER = 3,
    /**
     * A limit on headers that protects from hostile files.
     */
    NIWAKI_STATUS_LIMIT = 4,
    /**
     * The machine, or another process on it.
     */
    NIWAKI_STATUS_ENVIRONMENT = 5,
    /**
     * The library itself: a panic was caught. Handles stay as they were.
     */
    NIWAKI_STATUS_INTERNAL = 6,
} niwaki_status;

/**
 * What inputs are multiplied as.
 */
typedef enum {
    /**
     * As they are.
     */
    NIWAKI_PRECISION_FULL = 0,
    /**
     * Rounded to 8 bits in blocks of 32 with a scale each: less exact, and faster with packed codes.
     */
    NIWAKI_PRECISION_INT8 = 1,
} niwaki_precision;

/**
 * Types that weights are decoded to.
 */
typedef enum {
    /**
     * IEEE single precision.
     */
    NIWAKI_FLOAT_TYPE_F32 = 0,
    /**
     * IEEE half precision: the nearest, ties to even.
     */
    NIWAKI_FLOAT_TYPE_F16 = 1,
    /**
     * The upper half of single precision: the nearest, ties to even.
     */
    NIWAKI_FLOAT_TYPE_BF16 = 2,
} niwaki_float_type;

/**
 * An open checkpoint: a niwaki container, or anybody's safetensors file. `niwaki_artifact_free`.
 */
typedef struct niwaki_artifact niwaki_artifact;

/**
 * What was wrong, and where. It belongs to whoever was given it: `niwaki_error_free`.
 */
typedef struct niwaki_error niwaki_error;

/**
 * The weights of one tensor at one width, with whatever is laid over them. `niwaki_operand_free`.
 */
typedef struct niwaki_operand niwaki_operand;

/**
 * Signatures that are laid over weights, nearest to them first. `niwaki_overlay_free`.
 */
typedef struct niwaki_overlay niwaki_overlay;

/**
 * What is wrong with an artifact. `niwaki_verification_free`.
 */
typedef struct niwaki_verification niwaki_verification;

/**
 * Text that a handle owns: UTF-8, with a zero byte behind it that `len` does not count. A null pointer for
 * none.
 */
typedef struct {
    /**
     * The first byte.
     */
    const char *bytes;
    /**
     * How many there are. Names of tensors may have zeros among them.
     */
    size_t len;
} niwaki_text;

/**
 * What one tensor is. Its texts live as long as the artifact, and whatever was prepared from it.
 */
typedef struct {
    /**
     * Its name.
     */
    niwaki_text name;
    /**
     * The type that it was made from, such as `F32` or `BF16`.
     */
    niwaki_text dtype;
    /**
     * How it is stored, such as `int4/g64/sym`; `dense` for the weights themselves.
     */
    niwaki_text scheme;
    /**
     * How many dimensions there are.
     */
    size_t dims;
    /**
     * The dimensions, outermost first.
     */
    size_t shape[NIWAKI_MAX_DIMS];
    /**
     * Rows of its matrix: the first dimension, 1 for fewer than two.
     */
    size_t rows;
    /**
     * Columns of its matrix: the other dimensions.
     */
    size_t cols;
    /**
     * Bytes of everything that is stored of it.
     */
    uint64_t bytes;
    /**
     * Bit `n` says that it can be decoded at width `n`; 0 where it has one form.
     */
    uint32_t widths;
    /**
     * 1 where only those weights are stored that a mask or a list of positions names, else 0.
     */
    uint32_t masked;
} niwaki_tensor_info_t;

/**
 * Bytes that a handle owns.
 */
typedef struct {
    /**
     * The first one, of any alignment.
     */
    const uint8_t *data;
    /**
     * How many there are.
     */
    size_t len;
} niwaki_bytes;

/**
 * How a tensor is made ready; zeros are the widest form that is stored, and nothing else.
 */
typedef struct {
    /**
     * The width; 0 for the widest that the tensor serves. One that has a single form ignores it.
     */
    uint32_t width;
    /**
     * Signatures that are laid over the weights, or null.
     */
    const niwaki_overlay *overlay;
    /**
     * Bits that say which weights count, after all else, or null for all: row by row, each in whole bytes, the
     * first weight in the lowest bit. They are copied.
     */
    const uint8_t *mask;
    /**
     * Bytes of the mask: rows times columns / 8, rounded up.
     */
    size_t mask_len;
} niwaki_preparation;

/**
 * What an operand is.
 */
typedef struct {
    /**
     * Rows: products of one row of inputs.
     */
    size_t rows;
    /**
     * Columns: inputs of one product.
     */
    size_t cols;
    /**
     * The width that it is decoded at; 0 where the tensor has one form.
     */
    uint32_t width;
    /**
     * The kernel that multiplies, such as `avx512-vnni`. It lives as long as the operand.
     */
    niwaki_text kernel;
} niwaki_operand_info_t;

/**
 * Some rows of the weights, from `start` up to but without `end`.
 */
typedef struct {
    /**
     * The first.
     */
    size_t start;
    /**
     * One past the last.
     */
    size_t end;
} niwaki_rows;

/**
 * Where decoded weights go.
 */
typedef struct {
    /**
     * The first, aligned as its type is.
     */
    void *data;
    /**
     * How many there are: rows of the call times columns.
     */
    size_t len;
    /**
     * A `niwaki_float_type`.
     */
    uint32_t type;
} niwaki_weights;

/**
 * Memory that a call may use for its own purposes, and whose contents mean nothing before and after it. It
 * begins at a multiple of `NIWAKI_SCRATCH_ALIGNMENT` bytes, and no other call uses it at the same time. Null
 * and 0 where none is needed.
 */
typedef struct {
    /**
     * The first byte.
     */
    void *data;
    /**
     * Bytes.
     */
    size_t len;
} niwaki_scratch;

/**
 * Rows of inputs, one behind the other.
 */
typedef struct {
    /**
     * The first.
     */
    const float *data;
    /**
     * Floats: a whole number of rows as long as the operand's columns.
     */
    size_t len;
    /**
     * A `niwaki_precision`.
     */
    uint32_t precision;
} niwaki_inputs;

/**
 * Where products go.
 */
typedef struct {
    /**
     * The first.
     */
    float *data;
    /**
     * Floats: for each row of inputs as many as there are rows of weights in the call.
     */
    size_t len;
} niwaki_outputs;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library, such as `0.1.0`. It lives as long as the program.
 */
const char *niwaki_version(void);

/**
 * The ABI of the library that is running; `NIWAKI_ABI` is that of the header.
 */
uint32_t niwaki_abi(void);

/**
 * Whose fault it is; `NIWAKI_STATUS_OK` for null.
 *
 * # Safety
 *
 * `error` is null or was not freed.
 */
niwaki_status niwaki_error_status(const niwaki_error *error);

/**
 * One line: file and tensor where they are known, what was found and what was expected.
 *
 * # Safety
 *
 * `error` is null or was not freed. The text lives as long as it.
 */
niwaki_text niwaki_error_message(const niwaki_error *error);

/**
 * The file that it concerns, where one is known.
 *
 * # Safety
 *
 * `error` is null or was not freed. The text lives as long as it.
 */
niwaki_text niwaki_error_path(const niwaki_error *error);

/**
 * The tensor that it concerns, where one is known.
 *
 * # Safety
 *
 * `error` is null or was not freed. The text lives as long as it.
 */
niwaki_text niwaki_error_tensor(const niwaki_error *error);

/**
 * What can be done about it, where that is more than the message says.
 *
 * # Safety
 *
 * `error` is null or was not freed. The text lives as long as it.
 */
niwaki_text niwaki_error_hint(const niwaki_error *error);

/**
 * Frees an error; null is nothing.
 *
 * # Safety
 *
 * `error` is null or was not freed.
 */
void niwaki_error_free(niwaki_error *error);

/**
 * Opens a `.safetensors` file, an index (`*.json`), or a folder that holds either. Headers are read, weights
 * are mapped: the files must not be written to while anything of them is in use. A file that is shortened ends
 * the process when its end is read.
 *
 * # Safety
 *
 * `path` ends with a zero byte; `out` can be written; `error` is null or can be written.
 */
niwaki_status niwaki_open(const char *path, niwaki_artifact **out, niwaki_error **error);

/**
 * Opens one safetensors file that is in memory. Nothing is copied: the bytes must stay, unchanged, until the
 * artifact and everything that was prepared from it are freed. Errors call them `bytes`.
 *
 * # Safety
 *
 * `len` bytes can be read at `bytes` for as long as said; `out` can be written; `error` is null or can be
 * written.
 */
niwaki_status niwaki_open_bytes(const uint8_t *bytes, size_t len, niwaki_artifact **out, niwaki_error **error);

/**
 * Opens one safetensors file that is open for reading already, and maps it. The descriptor stays the caller's,
 * and may be closed at once; its position does not matter. Errors call it `fd N`. Only on Unix.
 *
 * # Safety
 *
 * `fd` is not closed during the call; `out` can be written; `error` is null or can be written.
 */
niwaki_status niwaki_open_fd(int fd, niwaki_artifact **out, niwaki_error **error);

/**
 * Frees an artifact; null is nothing. What was prepared from it stays as it is.
 *
 * # Safety
 *
 * `artifact` is null or was not freed.
 */
void niwaki_artifact_free(niwaki_artifact *artifact);

/**
 * How many tensors there are; 0 for null. They are numbered from 0, in the order of their data.
 *
 * # Safety
 *
 * `artifact` is null or was not freed.
 */
size_t niwaki_tensor_count(const niwaki_artifact *artifact);

/**
 * The number of the tensor of that name.
 *
 * # Safety
 *
 * `artifact` was not freed; `name` ends with a zero byte; `index` can be written; `error` is null or can be
 * written.
 */
niwaki_status niwaki_tensor_find(const niwaki_artifact *artifact,
                                 const char *name,
                                 size_t *index,
                                 niwaki_error **error);

/**
 * What the tensor of that number is.
 *
 * # Safety
 *
 * `artifact` was not freed; `info` can be written; `error` is null or can be written.
 */
niwaki_status niwaki_tensor_info(const niwaki_artifact *artifact,
                                 size_t index,
                                 niwaki_tensor_info_t *info,
                                 niwaki_error **error);

/**
 * The stored bytes of a part of a tensor: `codes`, `scales`, `mask` and so on, as the format names them, or
 * the empty text for a tensor that is stored as it is. They live as long as the artifact and whatever was
 * prepared from it.
 *
 * # Safety
 *
 * `artifact` was not freed; `part` ends with a zero byte; `out` can be written; `error` is null or can be
 * written.
 */
niwaki_status niwaki_part(const niwaki_artifact *artifact,
                          size_t index,
                          const char *part,
                          niwaki_bytes *out,
                          niwaki_error **error);

/**
 * The digest over all tensors as the metadata has it, 32 bytes of BLAKE3. A plain checkpoint has none.
 * `niwaki_verify` says whether it is that of what is stored.
 *
 * # Safety
 *
 * `artifact` was not freed; 32 bytes can be written at `digest`; `error` is null or can be written.
 */
niwaki_status niwaki_digest(const niwaki_artifact *artifact, uint8_t *digest, niwaki_error **error);

/**
 * Checks headers, order, alignment, every hash and digest, and the contents of every part: reads everything.
 * The caller's thread does it, with `threads - 1` more that end before the call does; faults do not depend on
 * their number. That something is wrong is no error: `niwaki_verification_count` says how much.
 *
 * # Safety
 *
 * `artifact` was not freed; `out` can be written; `error` is null or can be written.
 */
niwaki_status niwaki_verify(const niwaki_artifact *artifact,
                            size_t threads,
                            niwaki_verification **out,
                            niwaki_error **error);

/**
 * How many things are wrong; 0 for null.
 *
 * # Safety
 *
 * `verification` is null or was not freed.
 */
size_t niwaki_verification_count(const niwaki_verification *verification);

/**
 * One line about the thing of that number; no text where there is none.
 *
 * # Safety
 *
 * `verification` is null or was not freed. The text lives as long as it.
 */
niwaki_text niwaki_verification_fault(const niwaki_verification *verification, size_t index);

/**
 * Frees a verification; null is nothing.
 *
 * # Safety
 *
 * `verification` is null or was not freed.
 */
void niwaki_verification_free(niwaki_verification *verification);

/**
 * Stacks `count` signatures, the values of each times its alpha. Nothing is read of them until weights are
 * decoded. Whether they were made for those weights is not asked: shapes must agree.
 *
 * # Safety
 *
 * `count` artifacts that were not freed and as many numbers can be read; `out` can be written; `error` is null
 * or can be written.
 */
niwaki_status niwaki_overlay_new(const niwaki_artifact *const *signatures,
                                 const double *alphas,
                                 size_t count,
                                 niwaki_overlay **out,
                                 niwaki_error **error);

/**
 * Frees an overlay; null is nothing. What was prepared with it stays as it is.
 *
 * # Safety
 *
 * `overlay` is null or was not freed.
 */
void niwaki_overlay_free(niwaki_overlay *overlay);

/**
 * Makes a tensor ready to be multiplied and decoded. A null `preparation` is one of zeros.
 *
 * This counts what masks keep, and may allocate; nothing after it does.
 *
 * # Safety
 *
 * `artifact` was not freed; what `preparation` points to can be read, and its overlay was not freed; `out` can
 * be written; `error` is null or can be written.
 */
niwaki_status niwaki_prepare(const niwaki_artifact *artifact,
                             size_t index,
                             const niwaki_preparation *preparation,
                             niwaki_operand **out,
                             niwaki_error **error);

/**
 * Frees an operand; null is nothing.
 *
 * # Safety
 *
 * `operand` is null or was not freed.
 */
void niwaki_operand_free(niwaki_operand *operand);

/**
 * What an operand is; all 0 for null.
 *
 * # Safety
 *
 * `operand` is null or was not freed.
 */
niwaki_operand_info_t niwaki_operand_info(const niwaki_operand *operand);

/**
 * Bytes of scratch for decoding: what a row takes, once or a few times. 0 for null.
 *
 * # Safety
 *
 * `operand` is null or was not freed.
 */
size_t niwaki_dequantize_scratch(const niwaki_operand *operand);

/**
 * Decodes some rows, patches laid over them, and zeros where a mask drops weights. Halves and bfloat16 are the
 * nearest to the floats that `NIWAKI_FLOAT_TYPE_F32` gives. The same bits on every machine.
 *
 * # Safety
 *
 * `operand` was not freed; `out` and `scratch` can be read and written, by nobody else during the call;
 * `error` is null or can be written.
 */
niwaki_status niwaki_dequantize(const niwaki_operand *operand,
                                niwaki_rows rows,
                                niwaki_weights out,
                                niwaki_scratch scratch,
                                niwaki_error **error);

/**
 * Bytes of scratch for products with `count` rows of inputs of that `niwaki_precision`: no more for many than
 * for 8. 0 for null, and for a precision that is not known.
 *
 * # Safety
 *
 * `operand` is null or was not freed.
 */
size_t niwaki_product_scratch(const niwaki_operand *operand, uint32_t precision, size_t count);

/**
 * Multiplies some rows with one row of inputs: `y[i]` is the product of row `rows.start + i`.
 *
 * Ranges of rows give the same bits as all rows at once, so threads may share the work, each with scratch of
 * its own. The order in which a row is summed is the kernel's.
 *
 * # Safety
 *
 * `operand` was not freed; `x` can be read, `y` and `scratch` be read and written, by nobody else during the
 * call; `error` is null or can be written.
 */
niwaki_status niwaki_gemv(const niwaki_operand *operand,
                          niwaki_rows rows,
                          niwaki_inputs x,
                          niwaki_outputs y,
                          niwaki_scratch scratch,
                          niwaki_error **error);

/**
 * Multiplies some rows with several rows of inputs: `y` has the products with the first row of inputs, then
 * those with the second, and so on, `rows.end - rows.start` of each. The same bits as `niwaki_gemv` with each.
 *
 * # Safety
 *
 * That of `niwaki_gemv`.
 */
niwaki_status niwaki_gemm(const niwaki_operand *operand,
                          niwaki_rows rows,
                          niwaki_inputs x,
                          niwaki_outputs y,
                          niwaki_scratch scratch,
                          niwaki_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NIWAKI_H */
